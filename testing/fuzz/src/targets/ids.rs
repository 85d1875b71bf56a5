//! Ids of components: which texts are one, and that no two share keys.

use storage_core::ComponentId;

use crate::input::lines;

/// The longest message about an id, however long the text.
const MESSAGE_BYTES: usize = 1_000;

/// Two ids as text, and the three segments of another, a line each.
pub(crate) fn run(input: &[u8]) {
    let [one, other, namespace, name, instance] = lines(input);
    let one = parse(one);
    let other = parse(other);
    if let (Some(one), Some(other)) = (&one, &other) {
        // Neither sees a key of the other, whatever the keys are.
        assert_eq!(one == other, one.key_prefix().starts_with(other.key_prefix()));
        assert_eq!(one == other, other.key_prefix().starts_with(one.key_prefix()));
        assert_eq!(one.cmp(other), one.key_prefix().cmp(other.key_prefix()));
    }
    let made = ComponentId::new(namespace, name, instance);
    let allowed = [namespace, name, instance].into_iter().all(is_segment);
    assert_eq!(made.is_ok(), allowed, "{namespace:?} {name:?} {instance:?}");
}

fn parse(text: &str) -> Option<ComponentId> {
    let segments: Vec<&str> = text.split('/').collect();
    let allowed = segments.len() == 3 && segments.iter().all(|segment| is_segment(segment));
    match text.parse::<ComponentId>() {
        Ok(id) => {
            assert!(allowed, "{text:?} is taken for an id");
            assert_eq!(segments, [id.namespace(), id.name(), id.instance()]);
            assert_eq!(id.to_string(), text);
            assert_eq!((id.as_str(), id.to_string_id().as_str()), (text, text));
            assert_eq!(id.key_prefix(), format!("{text}/"));
            assert_eq!(id.to_string().parse(), Ok(id.clone()));
            Some(id)
        }
        Err(error) => {
            assert!(!allowed, "{text:?} is refused: {error}");
            assert!(error.to_string().len() < MESSAGE_BYTES);
            None
        }
    }
}

/// The rule as `docs/component-developers.md` words it.
fn is_segment(text: &str) -> bool {
    let of = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:@+";
    (1..=128).contains(&text.len())
        && text.chars().all(|c| of.contains(c))
        && !matches!(text, "." | "..")
}
