//! The view of a run in a terminal: nothing that it would have to wrap.

#![allow(unsafe_code, reason = "openpty and login_tty, which the standard library does not have")]

use crate::{Bench, with};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::ptr::null_mut;
use std::time::{Duration, Instant};
use unicode_width::UnicodeWidthChar;

/// The longest silence of a program that has something to write or to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal of so many columns and rows: our end, and the program's.
fn terminal(columns: u16, rows: u16) -> (File, File) {
    let mut size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: all pointers are valid or null, which is allowed for the name and the modes.
    let result = unsafe {
        libc::openpty(&mut ours, &mut theirs, null_mut(), null_mut(), (&raw mut size).cast())
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and nobody else has them.
    unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) }
}

/// The output of a program on a terminal.
fn shown(bench: &Bench, args: &[&str], columns: u16, variables: &[(&str, &str)]) -> String {
    let (mut ours, theirs) = terminal(columns, 24);
    let mut command = bench.command(args);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    // The command holds the program's end, which would keep the terminal open.
    drop(command);
    let (mut bytes, mut block) = (vec![], [0; 4096]);
    // Linux reports the end as an error, others as no bytes.
    while let Ok(n @ 1..) = ours.read(&mut block) {
        bytes.extend_from_slice(&block[..n]);
    }
    let text = String::from_utf8(bytes).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

/// A program that is used through a terminal of its own.
pub(crate) struct Session {
    terminal: File,
    child: Child,
    /// What it wrote since the last expectation.
    fresh: String,
    /// What a terminal would show of all that it wrote.
    screen: vt100::Parser,
}

impl Session {
    pub(crate) fn start(bench: &Bench, args: &[&str]) -> Self {
        Session::sized(bench, args, (80, 24), &[("NO_COLOR", "1")])
    }

    /// On a terminal of so many columns and rows, with these variables besides.
    pub(crate) fn sized(
        bench: &Bench,
        args: &[&str],
        (columns, rows): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let (terminal, theirs) = terminal(columns, rows);
        let mut command = bench.command(args);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        command.envs(variables.iter().copied());
        let theirs = theirs.as_raw_fd();
        // SAFETY: login_tty may be called between fork and exec; `theirs` is open until after that.
        unsafe {
            command.pre_exec(move || match libc::login_tty(theirs) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap();
        let screen = vt100::Parser::new(rows, columns, 0);
        Session { terminal, child, fresh: String::new(), screen }
    }

    pub(crate) fn send(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the program writes `text`; returns what it wrote up to there.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.fresh.find(text) {
                return self.fresh.drain(..at + text.len()).collect();
            }
            assert!(self.read(), "the program ended without {text:?}: {:?}", self.fresh);
        }
    }

    /// Waits until the terminal shows what `holds` asks for; returns the lines that it shows.
    pub(crate) fn shows(&mut self, holds: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let contents = self.screen.screen().contents();
            if !self.drawing() && holds(&contents) {
                return contents;
            }
            assert!(start.elapsed() < PATIENCE, "this is all that is shown:\n{contents}");
            assert!(self.read(), "the program ended and showed:\n{contents}");
        }
    }

    /// True in the middle of a picture of a program that says where its pictures begin and end.
    fn drawing(&self) -> bool {
        let last = |end: char| self.fresh.rfind(&format!("\x1b[?2026{end}"));
        last('h') > last('l')
    }

    /// The terminal as it is.
    pub(crate) fn screen(&self) -> &vt100::Screen {
        self.screen.screen()
    }

    /// Gives the terminal another size, as a user does by its corner.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` outlives the call, which reads it.
        let status =
            unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
        self.screen.screen_mut().set_size(rows, columns);
    }

    /// Waits until the program has written so many bytes more.
    pub(crate) fn more(&mut self, bytes: usize) {
        while self.fresh.len() < bytes {
            assert!(self.read(), "the program ended: {:?}", self.fresh);
        }
    }

    /// Reads what comes next; false at the end.
    fn read(&mut self) -> bool {
        let mut input =
            libc::pollfd { fd: self.terminal.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut input, 1, PATIENCE.as_millis() as libc::c_int) };
        assert_ne!(ready, 0, "nothing was written for {PATIENCE:?}: {:?}", self.fresh);
        let mut block = [0; 4096];
        // Linux reports the end as an error, others as no bytes.
        let count = self.terminal.read(&mut block).unwrap_or(0);
        self.fresh.push_str(&String::from_utf8_lossy(&block[..count]));
        self.screen.process(&block[..count]);
        count > 0
    }

    /// Asks the program to end, as `kill` does.
    pub(crate) fn terminate(&self) {
        let id = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: no precondition; the child was not waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
    }

    /// Waits for the end of the program.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the program does not end: {:?}", self.fresh);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// True if the terminal hands on whole lines and shows what is typed.
    pub(crate) fn is_plain(&self) -> bool {
        // SAFETY: all zeros are a valid termios, which the call fills in.
        let modes = unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.terminal.as_raw_fd(), &raw mut modes), 0);
            modes
        };
        modes.c_lflag & libc::ICANON != 0 && modes.c_lflag & libc::ECHO != 0
    }

    /// Waits for the end of the program; returns what it wrote before.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        while self.read() {}
        (self.wait(), std::mem::take(&mut self.fresh))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// The lines that a terminal of so many columns shows, control sequences left out; fails where a
/// line is longer than that, unless it is a command to be copied.
fn lines(text: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut column) = (vec![String::new()], 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "an unknown sequence in {text:?}");
                let end = chars.find(|c| c.is_ascii_alphabetic()).expect("an end");
                assert!("mKAJ".contains(end), "an unknown sequence, {end}");
            }
            '\r' => {
                column = 0;
                lines.push(String::new());
            }
            '\n' => {}
            c => {
                column += c.width().unwrap_or_else(|| panic!("{c:?} in {text:?}"));
                let line = lines.last_mut().unwrap();
                line.push(c);
                let fits = column <= columns || line.starts_with("  anegpt ");
                assert!(fits, "longer than {columns} columns: {line}");
            }
        }
    }
    lines
}

/// A run with names and a prompt that are long, wide or both.
fn run(bench: &Bench) -> Vec<String> {
    let mut base = bench.small_run();
    base.truncate(base.len() - 2);
    let long = "a-directory/".to_owned() + &"long-name-".repeat(10);
    let more = ["--steps", "24", "--sample-every", "12", "--eval-every", "12", "--out", &long];
    base.extend(more.map(str::to_owned));
    base.extend(["--prompt", "日本語 it's"].map(str::to_owned));
    base
}

fn clean(bench: &Bench) {
    std::fs::remove_dir_all(bench.path("a-directory")).unwrap();
}

#[test]
fn the_speed_of_a_generation_fits_the_terminal() {
    let bench = Bench::new();
    bench.ok(&with(&bench.small_run(), &["--steps", "4", "--out", "run"]));
    // Greedy, so that the text itself stays short of a line.
    let args = ["generate", "run", "-p", "a", "-n", "3", "--temperature", "0"];
    let text = shown(&bench, &args, 60, &[]);
    let lines = lines(&text, 60).join("\n");
    assert!(lines.contains("prompt ") && lines.contains(" tokens/s, on the CPU"), "{text}");
}

#[test]
fn a_run_fits_the_terminal() {
    let bench = Bench::new();
    let args = run(&bench);
    for columns in [60, 80, 200] {
        let args = with(&args, if columns == 200 { &["-v"] } else { &[] });
        let text = shown(&bench, &args, columns, &[]);
        let lines = lines(&text, usize::from(columns));
        clean(&bench);
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        assert!(has("/24  loss "), "a bar: {text}");
        assert!(has("step      1  loss ") && has("validation loss "), "{text}");
        assert!(has("  │ 日本語 it's") && has("loss: ⠒⠒ training, o validation"), "{text}");
        let parts = lines.iter().filter(|line| line.contains("engine_bwd")).count();
        assert_eq!(
            parts > 1,
            columns == 200,
            "once in the report; by step where asked for: {text}"
        );
        assert!(text.contains("\x1b[1m"), "colour: {text}");
        // Wrapped text begins below the text of its first line.
        let model = lines.iter().position(|line| line.starts_with("model ")).unwrap();
        let below = &lines[model + 1];
        assert!(columns == 200 || below.starts_with("           ") || below.is_empty(), "{text}");
    }
}

#[test]
fn colour_is_left_out_where_that_is_asked_for() {
    let bench = Bench::new();
    let args = run(&bench);
    for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let text = shown(&bench, &with(&args, &[]), 80, &variables);
        clean(&bench);
        let dumb = variables[0].0 == "TERM";
        assert_eq!(text.contains('\x1b'), !dumb, "a bar where cursors move: {text}");
        let coloured = text.split("\x1b[").skip(1).any(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        });
        assert!(!coloured, "{text:?}");
    }
    let text = shown(&bench, &with(&args, &["--color", "never"]), 80, &[]);
    clean(&bench);
    assert!(!text.contains("\x1b[1m"), "{text:?}");
}

#[test]
fn a_pipe_gets_nothing_but_lines() {
    let bench = Bench::new();
    let args = run(&bench);
    let mut command = bench.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let output = command.env("TERM", "xterm").env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    assert!(text.contains("step      1  loss "), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    // No locale, no Braille; the prompt is the user's.
    assert!(text.contains("loss: ** training, o validation"), "{text}");
    time_adds_up(&text);
    // The width is unknown, unless a variable tells.
    assert!(lines(&text.replace('\n', "\r\n"), 80).len() > 20);
}

#[test]
fn other_commands_fit_the_terminal() {
    let bench = Bench::new();
    bench.write("layer.mil", include_str!("../../../../examples/layer.mil"));
    for args in [
        "bench --quick --only step,generation,tokenizer",
        "probe fused",
        "probe causal-attention",
        "doctor",
        "devices",
        "plan",
        "mil estimate layer.mil --chip m4-pro",
        "mil run layer.mil --input random:1 --output out --numerics exact",
    ] {
        let words: Vec<&str> = args.split(' ').collect();
        let text = shown(&bench, &words, 80, &[]);
        assert!(lines(&text, 80).len() > 2, "{args}: {text}");
    }
}

/// The report's activities add up to its time.
fn time_adds_up(text: &str) {
    let report = text.split_once("=== Efficiency Report ===").expect("a report").1;
    let seconds = |line: &str| -> f64 {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[2], "s", "{line}");
        words[1].parse().unwrap()
    };
    let mut lines = report.lines().skip_while(|line| !line.starts_with("Time:"));
    let total = seconds(lines.next().unwrap());
    let parts: Vec<f64> = lines.take_while(|line| line.starts_with("  ")).map(seconds).collect();
    // Seven numbers, each rounded to a hundredth.
    assert_eq!(parts.len(), 7, "{report}");
    assert!((parts.iter().sum::<f64>() - total).abs() < 0.045 && total > 0.0, "{report}");
}
