//! Valid parts of a manifest that are likely mistakes.

use std::fmt;

use storage_core::{Budget, ComponentId};

use crate::grants::{Access, Grant};
use crate::manifest::{Manifest, ManifestComponent};

/// A part of a [`Manifest`] that may be a mistake. [`Display`](fmt::Display) describes it and
/// says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestWarning {
    /// A grant with an empty prefix: it covers all keys of the owner.
    EmptyPrefix {
        /// The component that the grant is for.
        component: ComponentId,
        /// The grant.
        grant: Grant,
    },
    /// A grant whose prefix ends in a letter or a digit: `shared` also covers `shared2`.
    OpenPrefix {
        /// The component that the grant is for.
        component: ComponentId,
        /// The grant.
        grant: Grant,
    },
    /// A grant without effect, because another one covers its keys with as much
    /// access. It does not narrow the other one.
    CoveredGrant {
        /// The component that the grants are for.
        component: ComponentId,
        /// The grant without effect.
        grant: Grant,
        /// The prefix of the grant that covers it.
        covered_by: String,
    },
    /// A grant for the keys of a component that the manifest does not name.
    UnknownOwner {
        /// The component that the grant is for.
        component: ComponentId,
        /// The grant.
        grant: Grant,
    },
    /// Presets that do not fit in the component's quota: in an empty store the
    /// component cannot start.
    PresetsAboveQuota {
        /// The component.
        component: ComponentId,
        /// The bytes of all keys and values of its presets.
        bytes: u64,
        /// The number of its presets.
        keys: u64,
        /// The quota.
        quota: Budget,
    },
}

impl ManifestWarning {
    /// Returns the component that it concerns.
    pub fn component(&self) -> &ComponentId {
        match self {
            Self::EmptyPrefix { component, .. }
            | Self::OpenPrefix { component, .. }
            | Self::CoveredGrant { component, .. }
            | Self::UnknownOwner { component, .. }
            | Self::PresetsAboveQuota { component, .. } => component,
        }
    }

    /// Identifies the kind for programs, such as `open_prefix`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::EmptyPrefix { .. } => "empty_prefix",
            Self::OpenPrefix { .. } => "open_prefix",
            Self::CoveredGrant { .. } => "covered_grant",
            Self::UnknownOwner { .. } => "unknown_owner",
            Self::PresetsAboveQuota { .. } => "presets_above_quota",
        }
    }
}

impl fmt::Display for ManifestWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPrefix { component, grant } => write!(
                f,
                "{component}: the grant for {} has an empty prefix, which covers all of its keys; \
                 if this is not intended, set a prefix",
                grant.owner
            ),
            Self::OpenPrefix { component, grant: Grant { owner, prefix, .. } } => write!(
                f,
                "{component}: the grant for {owner} with the prefix {prefix:?} also covers keys \
                 such as {:?}; if this is not intended, end the prefix with the separator of the \
                 keys",
                format!("{prefix}-2")
            ),
            Self::CoveredGrant { component, grant, covered_by } => write!(
                f,
                "{component}: the grant for {} with the prefix {:?} has no effect: the grant with \
                 the prefix {covered_by:?} allows as much; remove one of them",
                grant.owner, grant.prefix
            ),
            Self::UnknownOwner { component, grant } => write!(
                f,
                "{component}: the grant for {}, which this manifest does not list; check the id",
                grant.owner
            ),
            Self::PresetsAboveQuota { component, bytes, keys, quota } => {
                let (needed, allowed, unit) = match *bytes > quota.max_bytes {
                    true => (bytes, quota.max_bytes, "bytes"),
                    false => (keys, quota.max_keys, "keys"),
                };
                write!(
                    f,
                    "{component}: the presets need {needed} {unit}, more than the quota of {allowed}, \
                     so that the component cannot start in an empty store; raise the quota or \
                     remove presets"
                )
            }
        }
    }
}

impl Manifest {
    /// Returns the likely mistakes, in the order of the components.
    ///
    /// ```
    /// use storage_host::Manifest;
    ///
    /// let manifest: Manifest = r#"
    ///     [[component]]
    ///     id = "app/notes/home"
    ///
    ///     [[component]]
    ///     id = "app/report/1"
    ///     grants = [{ owner = "app/notes/home", prefix = "shared", access = "read" }]
    /// "#
    /// .parse()?;
    /// let warnings = manifest.warnings();
    /// assert_eq!(warnings[0].kind(), "open_prefix");
    /// assert!(warnings[0].to_string().contains("\"shared-2\""));
    /// # Ok::<(), storage_host::ManifestError>(())
    /// ```
    pub fn warnings(&self) -> Vec<ManifestWarning> {
        self.components.iter().flat_map(|component| self.warnings_of(component)).collect()
    }

    fn warnings_of(&self, component: &ManifestComponent) -> Vec<ManifestWarning> {
        let id = || component.id.clone();
        let mut warnings = Vec::new();
        for grant in &component.grants {
            if self.component(&grant.owner).is_none() {
                warnings
                    .push(ManifestWarning::UnknownOwner { component: id(), grant: grant.clone() });
            }
            if grant.prefix.is_empty() {
                warnings
                    .push(ManifestWarning::EmptyPrefix { component: id(), grant: grant.clone() });
            } else if grant.prefix.ends_with(char::is_alphanumeric) {
                warnings
                    .push(ManifestWarning::OpenPrefix { component: id(), grant: grant.clone() });
            }
            let covers = |other: &&Grant| {
                other.owner == grant.owner
                    && other.prefix.len() < grant.prefix.len()
                    && grant.prefix.starts_with(&other.prefix)
                    && (other.access == Access::ReadWrite || grant.access == Access::Read)
            };
            if let Some(other) = component.grants.iter().find(covers) {
                warnings.push(ManifestWarning::CoveredGrant {
                    component: id(),
                    grant: grant.clone(),
                    covered_by: other.prefix.clone(),
                });
            }
        }
        if let Some(quota) = component.settings.quota {
            let presets = component.presets.iter();
            let bytes = presets.map(|(key, value)| key.len() as u64 + value.len() as u64).sum();
            let keys = component.presets.len() as u64;
            if bytes > quota.max_bytes || keys > quota.max_keys {
                let component = id();
                warnings.push(ManifestWarning::PresetsAboveQuota { component, bytes, keys, quota });
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(component: &str) -> Vec<&'static str> {
        let text =
            format!("[[component]]\nid = 'a/b/owner'\n[[component]]\nid = 'a/b/c'\n{component}");
        let manifest: Manifest = text.parse().unwrap();
        manifest.warnings().iter().map(ManifestWarning::kind).collect()
    }

    fn grant(prefix: &str, access: &str) -> String {
        format!("{{ owner = 'a/b/owner', prefix = '{prefix}', access = '{access}' }}")
    }

    #[test]
    fn likely_mistakes_have_a_warning() {
        let two = |wide: &str, narrow: &str| {
            format!("grants = [{}, {}]", grant("x/", wide), grant("x/secret/", narrow))
        };
        let mut cases: Vec<(String, &[&str])> = vec![
            (two("read-write", "read"), &["covered_grant"]),
            (two("read-write", "read-write"), &["covered_grant"]),
            (two("read", "read"), &["covered_grant"]),
            (two("read", "read-write"), &[]),
            (format!("grants = [{}]", grant("", "read")), &["empty_prefix"]),
            (
                "grants = [{ owner = 'a/b/ownr', prefix = 'x/', access = 'read' }]".to_owned(),
                &["unknown_owner"],
            ),
        ];
        for prefix in ["shared/", "shared:", "shared-", "shared.", "shared_", "shared|", "sh red "]
        {
            cases.push((format!("grants = [{}]", grant(prefix, "read")), &[]));
        }
        for prefix in ["shared", "shared/1", "S", "\u{e9}", "\u{65e5}"] {
            cases.push((format!("grants = [{}]", grant(prefix, "read")), &["open_prefix"]));
        }
        for quota in ["bytes = 5", "keys = 2", "bytes = 'none'"] {
            cases.push((format!("quota = {{ {quota} }}\n{PRESETS}"), &[]));
        }
        for quota in ["bytes = 4", "keys = 1"] {
            let presets = format!("quota = {{ {quota} }}\n{PRESETS}");
            cases.push((presets, &["presets_above_quota"]));
        }
        for (component, expected) in cases {
            assert_eq!(kinds(&component), expected, "{component}");
        }
    }

    /// Five bytes in two keys.
    const PRESETS: &str = "presets = { ab = 'cd', e = '' }";
}
