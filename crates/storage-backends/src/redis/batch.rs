//! Requests that are sent together, and who gets which reply.

use std::sync::Arc;

use redis::Value;

use super::error::Problem;
use super::part::Part;
use super::turn::{Body, Submission};
use super::wait::Wait;

/// Requests of several callers, to be sent in one write.
pub(super) struct Batch {
    /// In the order in which they are sent. The parts of a run of a script are side by side.
    submissions: Vec<Submission>,
    /// How the callers wait for replicas that do.
    wait: Option<Arc<Wait>>,
}

impl Batch {
    /// Only if the first request waits for replicas may others do that.
    pub(super) fn new(first: Submission, others: Vec<Submission>) -> Self {
        let wait = first.request.wait.clone();
        let mut submissions = vec![first];
        submissions.extend(others);
        // The parts of each run become neighbours. Requests that are not parts come first.
        submissions.sort_by_key(|submission| {
            let part = submission.part();
            (part.map(|part| Arc::as_ptr(&part.common)), part.is_some_and(|part| part.is_last))
        });
        Self { submissions, wait }
    }

    /// What is sent.
    pub(super) fn packed(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        for together in self.submissions.chunk_by(are_in_one_run) {
            match together.first().map(|first| &first.request.body) {
                Some(Body::Packed { bytes, .. }) => packed.extend_from_slice(bytes),
                Some(Body::Part(_)) => {
                    let parts: Vec<&Part> = together.iter().filter_map(Submission::part).collect();
                    Part::command(&parts).write_packed_command(&mut packed);
                }
                None => {}
            }
        }
        if let Some(wait) = &self.wait {
            wait.command.write_packed_command(&mut packed);
        }
        packed
    }

    /// Gives each caller its replies. `receive` returns the next ones, so many.
    pub(super) fn deliver(mut self, mut receive: impl FnMut(usize) -> Result<Vec<Value>, Problem>) {
        self.submissions.iter_mut().for_each(|submission| submission.was_sent = true);
        let lens: Vec<usize> = self.submissions.chunk_by(are_in_one_run).map(<[_]>::len).collect();
        let mut rest = self.submissions.into_iter();
        let mut unconfirmed = Vec::new();
        let deliver_all = || {
            for len in lens {
                answer_next(len, &mut rest, &mut unconfirmed, &mut receive)?;
            }
            let confirmed = if self.wait.is_some() { receive(1)? } else { Vec::new() };
            for (submission, mut replies) in unconfirmed.drain(..) {
                replies.extend_from_slice(&confirmed);
                submission.answer(replies);
            }
            Ok(())
        };
        if let Err(problem) = deliver_all() {
            unconfirmed.into_iter().for_each(|(submission, _)| submission.fail(&problem));
            rest.for_each(|submission| submission.fail(&problem));
        }
    }

    /// Tells all callers that nothing was sent, or only a part.
    pub(super) fn fail(self, problem: &Problem, was_sent: bool) {
        for mut submission in self.submissions {
            submission.was_sent = was_sent;
            submission.fail(problem);
        }
    }
}

/// Answers a caller, or the `len` callers whose parts are in one run. Those that wait for replicas
/// are added to `unconfirmed` instead.
fn answer_next(
    len: usize,
    rest: &mut std::vec::IntoIter<Submission>,
    unconfirmed: &mut Vec<(Submission, Vec<Value>)>,
    receive: &mut impl FnMut(usize) -> Result<Vec<Value>, Problem>,
) -> Result<(), Problem> {
    let mut answer = |submission: Submission, replies| {
        if submission.request.wait.is_some() {
            unconfirmed.push((submission, replies));
        } else {
            submission.answer(replies);
        }
    };
    match rest.as_slice().first().map(|first| &first.request.body) {
        Some(Body::Packed { replies, .. }) => {
            let replies = receive(*replies)?;
            if let Some(submission) = rest.next() {
                answer(submission, replies);
            }
        }
        _ => {
            let reply = receive(1)?.pop().unwrap_or_default();
            let replies = Part::replies(reply, len);
            rest.by_ref()
                .take(len)
                .zip(replies)
                .for_each(|(submission, reply)| answer(submission, vec![reply]));
        }
    }
    Ok(())
}

fn are_in_one_run(a: &Submission, b: &Submission) -> bool {
    match (a.part(), b.part()) {
        (Some(a), Some(b)) => a.joins(b),
        _ => false,
    }
}
