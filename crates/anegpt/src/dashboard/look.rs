//! Colours and characters. Colours are the terminal's own sixteen over its own background, so that they can be read
//! on light and on dark; each only repeats what a character or a word says too.

use ratatui_core::style::{Color, Modifier, Style};

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// True if more than ASCII can be shown.
    pub(crate) unicode: bool,
    /// True if colours are wanted.
    pub(crate) colour: bool,
}

impl Look {
    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of what is selected.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn loss(self) -> Style {
        self.coloured(Color::Cyan)
    }

    pub(super) fn validation(self) -> Style {
        self.coloured(Color::Green).add_modifier(Modifier::BOLD)
    }

    pub(super) fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn fault(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Of the run at a place of the list.
    pub(super) fn run(self, index: usize) -> Style {
        let colours =
            [Color::Cyan, Color::Magenta, Color::Green, Color::Yellow, Color::Blue, Color::Red];
        self.coloured(colours[index % colours.len()])
    }
}
