//! Component ids: which texts are valid, and that no two share keys.

use storage_core::ComponentId;

use crate::input::lines;

/// The maximum length of an error message.
const MAX_MESSAGE_BYTES: usize = 1_000;

/// Input: two ids, and the three segments of a third one, each on a line.
pub(crate) fn run(input: &[u8]) {
    let [one, other, namespace, name, instance] = lines(input);
    let one = parse(one);
    let other = parse(other);
    if let (Some(one), Some(other)) = (&one, &other) {
        // Neither sees any key of the other.
        assert_eq!(one == other, one.key_prefix().starts_with(other.key_prefix()));
        assert_eq!(one == other, other.key_prefix().starts_with(one.key_prefix()));
        assert_eq!(one.cmp(other), one.key_prefix().cmp(other.key_prefix()));
    }
    let built = ComponentId::new(namespace, name, instance);
    let allowed = [namespace, name, instance].into_iter().all(is_segment);
    assert_eq!(built.is_ok(), allowed, "{namespace:?} {name:?} {instance:?}");
}

fn parse(text: &str) -> Option<ComponentId> {
    let segments: Vec<&str> = text.split('/').collect();
    let allowed = segments.len() == 3 && segments.iter().all(|segment| is_segment(segment));
    match text.parse::<ComponentId>() {
        Ok(id) => {
            assert!(allowed, "accepted the id {text:?}");
            assert_eq!(segments, [id.namespace(), id.name(), id.instance()]);
            assert_eq!(id.to_string(), text);
            assert_eq!((id.as_str(), id.to_string_id().as_str()), (text, text));
            assert_eq!(id.key_prefix(), format!("{text}/"));
            assert_eq!(id.to_string().parse(), Ok(id.clone()));
            Some(id)
        }
        Err(error) => {
            assert!(!allowed, "refused the id {text:?}: {error}");
            assert!(error.to_string().len() < MAX_MESSAGE_BYTES);
            None
        }
    }
}

/// The rule as in `docs/component-developers.md`.
fn is_segment(text: &str) -> bool {
    let of = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:@+";
    (1..=128).contains(&text.len())
        && text.chars().all(|c| of.contains(c))
        && !matches!(text, "." | "..")
}
