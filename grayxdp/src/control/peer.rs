//! Who asks: the credentials of a socket's peer, said as the journal keeps them.

use std::fs;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Somebody whom the socket's file mode let in.
    Socket {
        /// `uid 1000 (name)`.
        actor: String,
    },
    /// Anybody who reaches the HTTP address.
    Tcp,
    /// Somebody who brought a token there.
    Token {
        /// `token ci`.
        actor: String,
    },
}

impl Peer {
    /// The peer with this user id.
    pub(super) fn of_user(uid: u32) -> Self {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::Socket { actor: actor(uid, &users) }
    }

    /// How the journal names it.
    pub(super) fn actor(&self) -> String {
        match self {
            Self::Socket { actor } | Self::Token { actor } => actor.clone(),
            Self::Tcp => "http".to_owned(),
        }
    }
}

/// `uid 1000 (name)`, or `uid 1000` for a user without a line in the text of `passwd(5)`.
fn actor(uid: u32, users: &str) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    match name {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_still_named_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nmaria:x:1000:1000::/home/maria:/bin/sh\n";
        assert_eq!(actor(1000, users), "uid 1000 (maria)");
        assert_eq!(actor(0, users), "uid 0 (root)");
        assert_eq!(actor(1001, users), "uid 1001");
    }
}
