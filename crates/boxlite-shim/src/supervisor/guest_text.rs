//! Text that a guest wrote, made safe to be shown on a terminal.

/// Characters that are kept of a message.
const MAX_MESSAGE_CHARS: usize = 4096;

/// A line without control characters, which could be meant for the terminal.
pub(super) fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// A message, of bounded length.
pub(super) fn message(text: &str) -> String {
    let mut text = printable(text.as_bytes());
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn nothing_reaches_the_terminal_but_text(text: String) {
            let shown = message(&text);
            proptest::prop_assert!(shown.chars().all(|c| c == '\t' || !c.is_control()));
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let text = "ü".repeat(MAX_MESSAGE_CHARS + 10);
        assert_eq!(message(&text).chars().count(), MAX_MESSAGE_CHARS + 1);
        assert_eq!(message("a\u{1b}[2Jb\n"), "a[2Jb");
    }
}
