//! The id of a component, which becomes its component prefix.

use std::fmt;
use std::str::FromStr;

use crate::key::{MAX_SEGMENT_BYTES, excerpt};

/// The id of a component: `namespace/name/instance`.
///
/// A segment has 1 to [`MAX_SEGMENT_BYTES`] bytes of `A-Z a-z 0-9 . _ - : @ +` and is
/// neither `.` nor `..`. No segment contains a slash, so no component prefix begins with
/// another one: `001` does not see the keys of `0011`.
///
/// ```
/// use storage_core::ComponentId;
///
/// let id = ComponentId::new("app", "notes", "home")?;
/// assert_eq!(id.to_string_id(), "app/notes/home");
/// assert_eq!("app/notes/home".parse::<ComponentId>()?, id);
/// assert!(ComponentId::new("app", "no/tes", "home").is_err());
/// # Ok::<(), storage_core::InvalidComponentId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    // Includes the final slash, because every call needs the whole prefix.
    prefix: Box<str>,
    name_at: usize,
    instance_at: usize,
}

impl ComponentId {
    /// Creates an id from its segments.
    ///
    /// # Errors
    /// [`InvalidComponentId`] names the segment and the rule that it breaks.
    pub fn new(namespace: &str, name: &str, instance: &str) -> Result<Self, InvalidComponentId> {
        check_segment("namespace", namespace)?;
        check_segment("name", name)?;
        check_segment("instance", instance)?;
        let name_at = namespace.len() + 1;
        Ok(Self {
            prefix: format!("{namespace}/{name}/{instance}/").into(),
            name_at,
            instance_at: name_at + name.len() + 1,
        })
    }

    /// The first segment.
    pub fn namespace(&self) -> &str {
        self.segment(0, self.name_at)
    }

    /// The second segment.
    pub fn name(&self) -> &str {
        self.segment(self.name_at, self.instance_at)
    }

    /// The third segment.
    pub fn instance(&self) -> &str {
        self.segment(self.instance_at, self.prefix.len())
    }

    /// The id as text, `namespace/name/instance`, which [`FromStr`] parses.
    pub fn to_string_id(&self) -> String {
        self.as_str().to_owned()
    }

    /// The id as text, borrowed.
    pub fn as_str(&self) -> &str {
        self.segment(0, self.prefix.len())
    }

    /// The component prefix, `namespace/name/instance/`.
    pub fn key_prefix(&self) -> &str {
        &self.prefix
    }

    /// The text from `start` to the slash before `end`.
    fn segment(&self, start: usize, end: usize) -> &str {
        self.prefix.get(start..end.saturating_sub(1)).unwrap_or_default()
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComponentId({})", self.as_str())
    }
}

impl FromStr for ComponentId {
    type Err = InvalidComponentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut segments = text.split('/');
        match (segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some(namespace), Some(name), Some(instance), None) => {
                Self::new(namespace, name, instance)
            }
            _ => Err(InvalidComponentId(format!(
                "component id {:?} must have three segments, NAMESPACE/NAME/INSTANCE",
                excerpt(text)
            ))),
        }
    }
}

/// Why a text is not a [`ComponentId`]: the segment and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidComponentId(String);

impl fmt::Display for InvalidComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidComponentId {}

fn check_segment(which: &str, segment: &str) -> Result<(), InvalidComponentId> {
    let shown = excerpt(segment);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:@+".contains(c);
    if segment.is_empty() {
        return Err(InvalidComponentId(format!("the component's {which} is empty")));
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(InvalidComponentId(format!(
            "the component's {which} {shown:?} has {} bytes, more than {MAX_SEGMENT_BYTES}",
            segment.len()
        )));
    }
    if segment == "." || segment == ".." {
        return Err(InvalidComponentId(format!("the component's {which} may not be {segment:?}")));
    }
    if let Some(found) = segment.chars().find(|c| !allowed(*c)) {
        return Err(InvalidComponentId(format!(
            "the component's {which} {shown:?} contains {found:?}; allowed characters are \
             A-Z a-z 0-9 . _ - : @ +"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_three_segments() {
        let id = ComponentId::new("app", "service-a", "001").unwrap();
        assert_eq!((id.namespace(), id.name(), id.instance()), ("app", "service-a", "001"));
        assert_eq!(id.key_prefix(), "app/service-a/001/");
        assert_eq!(id.to_string(), "app/service-a/001");
    }

    #[test]
    fn the_longest_segment_is_allowed() {
        let longest = "x".repeat(MAX_SEGMENT_BYTES);
        assert!(ComponentId::new(&longest, &longest, &longest).is_ok());
    }
}
