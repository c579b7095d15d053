//! Access tokens of Hugging Face's hub.

use std::fmt;
use std::path::{Path, PathBuf};

/// Variables that may hold a token, the first first.
const VARIABLES: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

/// An access token. It is never printed, and sent to the server alone that it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token of visible ASCII characters; `None` if it is not one.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\".contains(&b);
        (!text.is_empty() && text.len() <= 4096 && text.bytes().all(plain))
            .then(|| Token(text.to_owned()))
    }

    /// The token of `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or the file that Hugging Face's own programs keep it in
    /// (`$HF_HOME/token`, else `~/.cache/huggingface/token`).
    pub fn from_environment() -> Option<Token> {
        let variable = |name: &&str| Token::new(&std::env::var(name).ok()?);
        VARIABLES.iter().find_map(variable).or_else(|| Token::read(&file()?))
    }

    fn read(path: &Path) -> Option<Token> {
        Token::new(&super::read_small(path).ok()?)
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn file() -> Option<PathBuf> {
    let directory =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(directory("HOME")?.join(".cache").join("huggingface"));
    Some(directory("HF_HOME").or_else(home)?.join("token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_visible_characters_and_are_not_shown() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(token.secret(), "hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        for bad in ["", " ", "a b", "a\"b", "a\\b", "a\nb", "é"] {
            assert_eq!(Token::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert_eq!(Token::read(&path), None);
        std::fs::write(&path, "hf_secret\n").unwrap();
        assert_eq!(Token::read(&path), Token::new("hf_secret"));
    }
}
