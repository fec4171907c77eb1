//! Tokens that allow changes over HTTP.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::{
    model::config::{HttpToken, TokenScope},
    providers::read_secret,
};

/// Shortest token, in bytes: one that can be guessed opens nothing.
const SHORTEST: usize = 16;

/// Who may change what over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<[HttpToken]>);

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// `token ci`, as the journal names it.
    pub(super) actor: String,
    /// What it allows.
    pub(super) scope: TokenScope,
}

impl Tokens {
    /// Those of the configuration. What they are is read anew for each request: a rotated one counts at once.
    #[must_use]
    pub fn new(tokens: Vec<HttpToken>) -> Self {
        Self(tokens.into())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose `Authorization` this is. All are compared, each in the same time whatever its bytes are.
    pub(super) async fn holder(&self, authorization: &[u8]) -> Option<Holder> {
        let given = bearer(authorization)?;
        let mut found = None;
        for token in self.0.iter() {
            match read_secret(&token.token_from).await {
                Ok(known) if known.len() < SHORTEST => {
                    tracing::warn!(token = %token.name, "a token of fewer than {SHORTEST} bytes allows nothing");
                }
                Ok(known) if bool::from(known.as_bytes().ct_eq(given)) => found = Some(token),
                Ok(_) => {}
                Err(why) => tracing::warn!(token = %token.name, "a token cannot be read: {why}"),
            }
        }
        found.map(|token| Holder { actor: format!("token {}", token.name), scope: token.scope })
    }
}

/// What stands behind `Bearer`, in any case (RFC 6750, section 2.1; RFC 9110, section 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::SecretSource;

    #[tokio::test]
    async fn a_token_is_what_its_file_holds_now() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = |name: &str, scope| {
            let file = folder.path().join(name);
            let token_from = SecretSource::File(file);
            HttpToken { name: name.parse().expect("a name"), token_from, scope }
        };
        let tokens = Tokens::new(vec![token("absent", TokenScope::All), token("models", TokenScope::Quality)]);
        let file = folder.path().join("models");
        let holds = async |text: &str| tokens.holder(text.as_bytes()).await.map(|holder| holder.actor);
        std::fs::write(&file, "0123456789abcdef\n").expect("written");
        for (given, expected) in [
            ("Bearer 0123456789abcdef", Some("token models".to_owned())),
            ("bearer 0123456789abcdef", Some("token models".to_owned())),
            ("Bearer 0123456789abcdeF", None),
            ("Bearer 0123456789abcde", None),
            ("Bearer 0123456789abcdef0", None),
            ("Basic 0123456789abcdef", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(holds(given).await, expected, "{given}");
        }
        let rotated = "another, and as long";
        std::fs::write(&file, rotated).expect("written");
        assert_eq!(holds("Bearer 0123456789abcdef").await, None);
        assert!(holds(&format!("Bearer {rotated}")).await.is_some());
        std::fs::write(&file, "short").expect("written");
        assert_eq!(holds("Bearer short").await, None);
    }
}
