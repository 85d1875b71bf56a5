//! Requests that are sent together, and who gets which reply.

use std::sync::Arc;

use redis::Value;

use super::error::Problem;
use super::part::Part;
use super::turn::{Body, Submission};
use super::wait::Wait;

/// Requests of several callers, to be sent in one write.
pub(super) struct Batch {
    parcels: Vec<Parcel>,
    /// How the last of them waits for replicas: also for those before it.
    wait: Option<Arc<Wait>>,
}

/// A request, or all parts of one run of a script.
struct Parcel(Vec<Submission>);

impl Batch {
    /// Only if the first request waits for replicas may others do that.
    pub(super) fn new(first: Submission, others: Vec<Submission>) -> Self {
        let wait = first.request.wait.clone();
        let mut parcels: Vec<Parcel> = Vec::with_capacity(1 + others.len());
        for submission in std::iter::once(first).chain(others) {
            match parcels.iter_mut().find(|parcel| parcel.takes(&submission)) {
                Some(parcel) => parcel.0.push(submission),
                None => parcels.push(Parcel(vec![submission])),
            }
        }
        for parcel in &mut parcels {
            parcel.0.sort_by_key(|submission| submission.part().is_some_and(|part| part.is_last));
        }
        Self { parcels, wait }
    }

    /// What is sent.
    pub(super) fn packed(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        for parcel in &self.parcels {
            parcel.pack(&mut packed);
        }
        if let Some(wait) = &self.wait {
            wait.command.write_packed_command(&mut packed);
        }
        packed
    }

    /// Gives each caller its replies. `receive` returns the next ones, so many.
    pub(super) fn deliver(mut self, mut receive: impl FnMut(usize) -> Result<Vec<Value>, Problem>) {
        for submission in self.parcels.iter_mut().flat_map(|parcel| &mut parcel.0) {
            submission.was_sent = true;
        }
        let mut unconfirmed = Vec::new();
        let mut parcels = self.parcels.into_iter();
        let mut problem = None;
        while problem.is_none()
            && let Some(parcel) = parcels.next()
        {
            match receive(parcel.replies()) {
                Ok(replies) => parcel.answer(replies, &mut unconfirmed),
                Err(ended) => {
                    parcel.fail(&ended);
                    problem = Some(ended);
                }
            }
        }
        if self.wait.is_some() && problem.is_none() {
            match receive(1) {
                Ok(confirmed) => {
                    for (submission, mut replies) in unconfirmed.drain(..) {
                        replies.extend_from_slice(&confirmed);
                        submission.answer(replies);
                    }
                }
                Err(ended) => problem = Some(ended),
            }
        }
        if let Some(problem) = problem {
            unconfirmed.into_iter().for_each(|(submission, _)| submission.fail(&problem));
            parcels.for_each(|parcel| parcel.fail(&problem));
        }
    }

    /// Tells all callers that nothing was sent, or only a part.
    pub(super) fn fail(mut self, problem: &Problem, was_sent: bool) {
        for submission in self.parcels.iter_mut().flat_map(|parcel| &mut parcel.0) {
            submission.was_sent = was_sent;
        }
        self.parcels.into_iter().for_each(|parcel| parcel.fail(problem));
    }
}

impl Parcel {
    fn takes(&self, submission: &Submission) -> bool {
        match (self.0.first().and_then(Submission::part), submission.part()) {
            (Some(first), Some(part)) => first.joins(part),
            _ => false,
        }
    }

    fn pack(&self, packed: &mut Vec<u8>) {
        match self.0.first().map(|first| &first.request.body) {
            Some(Body::Packed { bytes, .. }) => packed.extend_from_slice(bytes),
            Some(Body::Part(_)) => {
                let parts: Vec<&Part> = self.0.iter().filter_map(Submission::part).collect();
                Part::command(&parts).write_packed_command(packed);
            }
            None => {}
        }
    }

    /// How many replies will come.
    fn replies(&self) -> usize {
        match self.0.first().map(|first| &first.request.body) {
            Some(Body::Packed { replies, .. }) => *replies,
            Some(Body::Part(_)) => 1,
            None => 0,
        }
    }

    /// Answers the callers, except those that wait for replicas.
    fn answer(self, replies: Vec<Value>, unconfirmed: &mut Vec<(Submission, Vec<Value>)>) {
        let is_run = self.0.first().and_then(Submission::part).is_some();
        let each: Vec<Vec<Value>> = if is_run {
            let reply = replies.into_iter().next().unwrap_or_default();
            Part::replies(reply, self.0.len()).into_iter().map(|reply| vec![reply]).collect()
        } else {
            vec![replies]
        };
        for (submission, replies) in self.0.into_iter().zip(each) {
            if submission.request.wait.is_some() {
                unconfirmed.push((submission, replies));
            } else {
                submission.answer(replies);
            }
        }
    }

    fn fail(self, problem: &Problem) {
        self.0.into_iter().for_each(|submission| submission.fail(problem));
    }
}
