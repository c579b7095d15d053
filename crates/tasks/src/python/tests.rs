//! Programs that would do harm: each is stopped, and what it did is gone.

use super::*;
use std::net::TcpListener;

fn python() -> Python {
    Python::find().expect("the tests need python3")
}

fn run(program: &str) -> Ended {
    python().run(program).unwrap()
}

fn failed(program: &str) -> String {
    match run(program) {
        Ended::Failed(reason) => reason,
        other => panic!("{other:?}: {program}"),
    }
}

/// Processes whose command line has this text.
fn processes(text: &str) -> usize {
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = listed.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(text.len()).any(|part| part == text.as_bytes())).count()
}

#[test]
fn programs_pass_or_say_why_not() {
    assert_eq!(run("assert 1 + 1 == 2"), Ended::Passed);
    assert_eq!(run("if __name__ != '__main__': 1 / 0"), Ended::Passed);
    assert_eq!(failed("assert 1 + 1 == 3, 'no'"), "AssertionError: no");
    assert_eq!(failed("def f(:"), "SyntaxError: invalid syntax");
    assert_eq!(failed("import os; os._exit(3)"), "exit status 3");
    assert_eq!(failed("import sys; sys.exit('é' * 1000)").chars().count(), 200);
}

#[test]
fn what_is_printed_is_read() {
    let output = |program: &str| python().output(program).unwrap();
    assert_eq!(output("print('ä', 3)"), (Ended::Passed, "ä 3\n".to_owned()));
    let (ended, printed) = output("print(1, flush=True); 1 / 0");
    assert_eq!(ended, Ended::Failed("ZeroDivisionError: division by zero".to_owned()));
    assert_eq!(printed, "1\n");
    let (ended, printed) = output("while True: print('x' * 1000)");
    assert!(matches!(ended, Ended::TimedOut | Ended::Failed(_)), "{ended:?}");
    assert_eq!(printed.len(), OUTPUT);
}

#[test]
fn its_environment_is_bare() {
    let program = "import os, sys
assert set(os.environ) <= {'PATH', 'LC_CTYPE', 'PWD', 'SHLVL', '_', 'OLDPWD'}, os.environ
assert sys.stdin.read() == ''
assert os.listdir('.') == []
open('mine', 'w').write('x')";
    assert_eq!(run(program), Ended::Passed);
    assert_eq!(run(program), Ended::Passed, "nothing is left of the first run");
}

#[test]
fn what_sleeps_or_loops_is_killed() {
    let start = Instant::now();
    assert_eq!(run("import time; time.sleep(1000)"), Ended::TimedOut);
    assert!(matches!(run("while True: pass"), Ended::TimedOut | Ended::Failed(_)));
    assert!(start.elapsed() < Duration::from_secs(4 * Python::SECONDS));
}

#[test]
fn memory_is_limited() {
    let reason = failed("x = bytearray(1 << 30)");
    assert!(reason.starts_with("MemoryError"), "{reason}");
    let reason = failed("x = []\nwhile True: x.append('x' * 1000000)");
    assert!(reason.starts_with("MemoryError") || reason.starts_with("killed"), "{reason}");
}

#[test]
fn disks_are_not_filled() {
    let reason = failed("open('big', 'wb').write(bytes(100 << 20))");
    assert!(reason.contains("File too large"), "{reason}");
    if python().walls == Walls::Namespaces {
        let reason = failed("for i in range(10000): open(str(i), 'wb').write(bytes(1 << 20))");
        assert!(reason.contains("No space left"), "{reason}");
        let reason = failed("open('/tmp/anegpt-was-here', 'w')");
        assert!(reason.contains("Read-only file system"), "{reason}");
    }
}

/// Errors without end do not fill the memory of this process, nor stop the program.
#[test]
fn errors_are_capped() {
    let program = "import sys
for i in range(3000): sys.stderr.write('x' * 10000 + '\\n')
sys.exit('the end')";
    assert_eq!(failed(program), "the end");
    assert_eq!(tail(&mut &vec![b'x'; 5 * ERRORS][..]).len() / ERRORS, 1);
}

#[test]
fn the_network_is_out_of_reach() {
    if !python().is_walled() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 2)");
    let reason = failed(&connect);
    assert!(reason.contains("unreachable") || reason.contains("refused"), "{reason}");
    assert!(listener.accept().is_err(), "nobody came");
}

/// Children, and what they leave in the background, are dead once the program is judged.
#[test]
fn children_die_with_the_program() {
    let python = python();
    for (mark, ending) in [("left-A", "pass"), ("left-B", "time.sleep(1000)")] {
        let program = format!(
            "import os, sys, time
for i in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1000)', '{mark}'])
        os._exit(0)
time.sleep(0.5)
{ending}"
        );
        let ended = python.run(&program).unwrap();
        let forks = python.walls == Walls::Namespaces;
        assert_eq!(!matches!(ended, Ended::Failed(_)), forks, "{ended:?}");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(processes(mark), 0, "{mark}");
    }
}

#[test]
fn a_fork_bomb_is_stopped() {
    let program = "import os, sys, time
while True:
    try: os.fork()
    except OSError: time.sleep(0.1)  # bomb-C";
    let start = Instant::now();
    let ended = run(program);
    assert!(matches!(ended, Ended::TimedOut | Ended::Failed(_)), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(3 * Python::SECONDS));
    let reason =
        failed("import os\nfor i in range(100): os.fork() or __import__('time').sleep(30)");
    assert!(reason.contains("Resource temporarily unavailable"), "{reason}");
}

/// The strongest walls here are namespaces; without them the same programs end as well.
#[test]
fn limits_alone_hold_too() {
    let python = Python { walls: Walls::Limits, ..python() };
    assert_eq!(python.run("print(1)").unwrap(), Ended::Passed);
    let failed = |program: &str| matches!(python.run(program).unwrap(), Ended::Failed(_));
    assert!(failed("bytearray(1 << 30)") && failed("open('x', 'wb').write(bytes(9 << 20))"));
    if python.nobody || !rustix::process::geteuid().is_root() {
        assert!(failed("import os; os.fork()"));
    }
    assert_eq!(python.run("import time; time.sleep(99)").unwrap(), Ended::TimedOut);
    assert!(!python.is_walled() && python.describe().contains("with your network"));
}
