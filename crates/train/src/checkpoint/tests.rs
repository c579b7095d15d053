use super::*;
use std::collections::BTreeSet;

fn contents(step: u64, values: &[f32]) -> Contents<'_> {
    let (half, rest) = values.split_at(values.len() / 2);
    Contents {
        step,
        best: None,
        tensors: vec![
            ("model.safetensors", vec![("w".into(), vec![values.len()], values.into())]),
            (
                "optimizer.safetensors",
                vec![
                    ("w.v".into(), vec![rest.len()], rest.into()),
                    ("w.m".into(), vec![half.len()], half.into()),
                ],
            ),
        ],
        texts: vec![
            ("config.json", "{ \"hidden_size\": 4 }".into()),
            ("tokenizer.json", "[\"once\", \"upon\"]".into()),
        ],
        state: serde_json::json!({ "seed": 7, "loss": 0.1 + 0.2, "zeros": NO_SEAL }),
    }
}

fn steps(out: &Path) -> Vec<u64> {
    finished(out).unwrap().iter().map(|f| f.0).collect()
}

fn place(out: &Path, step: u64) -> PathBuf {
    out.join(format!("{FINISHED}{step:08}"))
}

/// A disk that stops: the process is killed at an operation, or there is no room for more bytes.
struct Stopping {
    /// Operations until the kill; a write is then half done.
    life: usize,
    /// Bytes until the disk is full.
    room: usize,
    /// The operations so far.
    done: Vec<(&'static str, PathBuf)>,
}

impl Stopping {
    fn killed_after(operations: usize) -> Self {
        Stopping { life: operations, room: usize::MAX, done: vec![] }
    }

    fn with_room(bytes: usize) -> Self {
        Stopping { life: usize::MAX, room: bytes, done: vec![] }
    }

    fn begin(&mut self, what: &'static str, path: &Path) -> io::Result<()> {
        if self.life == 0 {
            return Err(io::Error::other("killed"));
        }
        self.life -= 1;
        self.done.push((what, path.to_owned()));
        Ok(())
    }
}

impl Disk for Stopping {
    fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.begin("create_dir", path)?;
        System.create_dir(path)
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        self.begin("create", path)?;
        System.create(path)
    }

    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if self.life == 0 || self.room < bytes.len() {
            let fits = if self.life == 0 { bytes.len() / 2 } else { self.room };
            self.room -= fits.min(self.room);
            System.write(file, &bytes[..fits])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= bytes.len();
        self.begin("write", Path::new(""))?;
        System.write(file, bytes)
    }

    fn sync(&mut self, file: &File, path: &Path) -> io::Result<()> {
        self.begin("sync", path)?;
        System.sync(file, path)
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.begin("sync_dir", path)?;
        System.sync_dir(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin("rename", to)?;
        System.rename(from, to)
    }

    fn symlink(&mut self, to: &Path, at: &Path) -> io::Result<()> {
        self.begin("symlink", at)?;
        System.symlink(to, at)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.life == 1 && path.is_dir() {
            // Killed in the middle: some of the files are gone.
            let mut files: Vec<_> = fs::read_dir(path)?.map(|e| e.unwrap().path()).collect();
            files.sort();
            files.truncate(files.len() / 2);
            files.iter().try_for_each(fs::remove_file)?;
            self.life = 0;
            return Err(io::Error::other("killed"));
        }
        self.begin("remove", path)?;
        System.remove(path)
    }
}

/// Kills a write of `step` after every possible number of operations, each time on a directory with
/// the checkpoints `before`. What is found is always the newest of before or the new one, whole.
fn kill_everywhere(before: &[u64], step: u64, keep: usize) -> usize {
    let (old, new) = ([1.0f32, 2.0, 3.0], [4.0f32, 5.0, 6.0]);
    for life in 0.. {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("runs/one");
        for &earlier in before {
            write(&out, &contents(earlier, &old), before.len()).unwrap();
        }
        let mut disk = Stopping::killed_after(life);
        let result = write_on(&mut disk, &out, &contents(step, &new), keep);
        match newest(&out) {
            Ok((found, faults)) => {
                assert!(faults.is_empty(), "life {life}: {faults:?}");
                let mut read = [0.0f32; 3];
                let wanted = [("w".to_owned(), vec![3], &mut read[..])];
                found.read_tensors("model.safetensors", wanted).unwrap();
                let is_new = found.step() == step && read == new;
                let is_old = before.iter().max() == Some(&found.step()) && read == old;
                assert!(is_new || is_old && result.is_err(), "life {life}: {found:?} {read:?}");
            }
            Err(error) => assert!(before.is_empty() && result.is_err(), "life {life}: {error}"),
        }
        // The next run clears up and writes.
        remove_unfinished(&out).unwrap();
        write(&out, &contents(step, &new), keep).unwrap();
        let expected: BTreeSet<u64> = before.iter().copied().chain([step]).collect();
        let kept: Vec<u64> = expected.into_iter().rev().take(keep).collect();
        assert_eq!(steps(&out), kept, "life {life}");
        let extra = entries(&out).unwrap().into_iter().filter(|n| !n.starts_with(FINISHED));
        assert_eq!(extra.collect::<Vec<_>>(), ["latest"], "life {life}");
        let latest = fs::read_link(out.join("latest")).unwrap();
        assert_eq!(latest, Path::new(&name_of(kept[0])), "life {life}");
        if disk.life > 0 {
            return life;
        }
    }
    unreachable!("some life is long enough")
}

#[test]
fn a_kill_at_any_operation_loses_nothing() {
    // 2 directories, 4 files with at least create, write and sync, their state, places.
    assert!(kill_everywhere(&[], 1, 3) > 20);
    assert!(kill_everywhere(&[1, 2, 3], 4, 2) > 20);
    assert!(kill_everywhere(&[3], 4, 1) > 20);
}

#[test]
fn a_kill_while_a_step_is_written_again_loses_nothing() {
    assert!(kill_everywhere(&[3], 3, 1) > 20);
    assert!(kill_everywhere(&[2, 3], 3, 2) > 20);
}

#[test]
fn a_first_checkpoint_that_fails_does_not_speak_of_earlier_ones() {
    let out = tempfile::tempdir().unwrap();
    let mut disk = Stopping::with_room(0);
    let values = [1.0; 40];
    let error = write_on(&mut disk, out.path(), &contents(1, &values), 2).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot write ") && !text.contains("earlier"), "{text}");
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let values: Vec<f32> = (0..40).map(|i| i as f32).collect();
    let mut names = BTreeSet::new();
    for room in (0..).step_by(11) {
        let out = tempfile::tempdir().unwrap();
        write(out.path(), &contents(1, &values), 2).unwrap();
        let mut disk = Stopping::with_room(room);
        let Err(error) = write_on(&mut disk, out.path(), &contents(2, &values), 2) else {
            assert!(room > 500, "{room} bytes cannot be enough");
            break;
        };
        let CheckpointError::Later(cause) = &error else { panic!("{error}") };
        let CheckpointError::Write { path, source } = &**cause else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        names.insert(path.file_name().unwrap().to_string_lossy().into_owned());
        assert!(error.to_string().contains("earlier checkpoints are untouched"));
        let mut left = entries(out.path()).unwrap();
        left.sort();
        assert_eq!(left, ["latest", "step-00000001"], "room for {room} bytes");
        assert_eq!(newest(out.path()).unwrap().0.step(), 1);
    }
    let all = [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all, "every file was the one without room");
}

/// Steps under `out`, and where its links lead.
fn layout(out: &Path) -> (Vec<u64>, [Option<String>; 2]) {
    let link = |name: &str| Some(fs::read_link(out.join(name)).ok()?.to_str()?.to_owned());
    (steps(out), ["latest", "best"].map(link))
}

#[test]
fn the_best_is_linked_and_outlives_newer_ones() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path();
    let save = |step: u64, best: Option<u64>, keep: usize| {
        write(out, &Contents { best, ..contents(step, &[step as f32]) }, keep).unwrap();
        layout(out)
    };
    let link = |step: u64| Some(name_of(step));
    assert_eq!(save(1, None, 1), (vec![1], [link(1), None]));
    assert_eq!(save(2, Some(2), 1), (vec![2], [link(2), link(2)]));
    assert_eq!(save(3, Some(2), 1), (vec![3, 2], [link(3), link(2)]));
    assert_eq!(save(4, Some(2), 2), (vec![4, 3, 2], [link(4), link(2)]));
    assert_eq!(save(5, Some(2), 2), (vec![5, 4, 2], [link(5), link(2)]));
    // A new best takes its place, and the old one goes.
    assert_eq!(save(6, Some(6), 1), (vec![6], [link(6), link(6)]));
    // A run that went back: the later one stays, and is still what the directory stands for.
    assert_eq!(save(4, Some(4), 1), (vec![6, 4], [link(6), link(4)]));
    for (name, step) in [("latest", 6), ("best", 4), ("step-00000004", 4), ("", 6)] {
        let (found, faults) = newest(&out.join(name)).unwrap();
        assert_eq!((found.step(), faults.len()), (step, 0), "{name}");
        assert_eq!(found.path().file_name().unwrap().to_str().unwrap(), name_of(step));
    }
}

#[test]
fn a_link_that_is_right_is_left_alone() {
    let out = tempfile::tempdir().unwrap();
    let mut disk = Stopping::killed_after(usize::MAX);
    for step in 1..=3 {
        let contents = Contents { best: Some(1), ..contents(step, &[1.0]) };
        write_on(&mut disk, out.path(), &contents, 3).unwrap();
    }
    let made = |name: &str| {
        let link = out.path().join(format!("{UNFINISHED}{name}"));
        disk.done.iter().filter(|(what, at)| *what == "symlink" && *at == link).count()
    };
    assert_eq!((made("latest"), made("best")), (3, 1));
}

#[test]
fn what_is_not_a_link_of_ours_stays() {
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("best")).unwrap();
    fs::write(out.path().join("latest"), "a note").unwrap();
    write(out.path(), &Contents { best: Some(1), ..contents(1, &[1.0]) }, 1).unwrap();
    assert!(out.path().join("best").is_dir());
    assert_eq!(fs::read_to_string(out.path().join("latest")).unwrap(), "a note");
    assert_eq!(steps(out.path()), [1]);
}

#[test]
fn there_is_something_to_resume_once_a_checkpoint_is_written() {
    let out = tempfile::tempdir().unwrap();
    assert!(!exists(out.path()) && !exists(&out.path().join("nowhere")));
    write(out.path(), &contents(1, &[1.0]), 1).unwrap();
    assert!(exists(out.path()));
}

#[test]
fn a_directory_that_cannot_be_created_says_why() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&file, &contents(1, &[1.0]), 1).unwrap_err().to_string();
    assert!(error.contains("file is not a directory"), "{error}");
    assert!(matches!(newest(&file), Err(CheckpointError::Read { .. })), "nor can it be read");
    let new = root.path().join("new");
    let mut disk = Stopping::killed_after(0);
    let error = write_on(&mut disk, &new, &contents(1, &[1.0]), 1).unwrap_err().to_string();
    assert!(error.contains("killed"), "{error}");
}

/// A power failure keeps only what was synced: each file before its directory, the directory before
/// its new name, the name before anything old goes.
#[test]
fn everything_is_durable_before_something_depends_on_it() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("new");
    let mut disk = Stopping::killed_after(usize::MAX);
    for step in 1..=2 {
        write_on(&mut disk, &out, &contents(step, &[1.0, 2.0]), 1).unwrap();
    }
    let at = |what: &str, path: &Path| {
        let found = disk.done.iter().position(|(w, p)| *w == what && p == path);
        found.unwrap_or_else(|| panic!("{what} {}", path.display()))
    };
    assert!(at("create_dir", &out) < at("sync_dir", root.path()));
    for step in 1..=2 {
        let name = format!("{FINISHED}{step:08}");
        let temporary = out.join(format!("{UNFINISHED}{name}"));
        let directory = at("sync_dir", &temporary);
        for file in ["model.safetensors", "optimizer.safetensors", "config.json", "state.json"] {
            assert!(at("sync", &temporary.join(file)) < directory, "{file}");
        }
        let named = at("rename", &out.join(&name));
        assert!(directory < named);
        let next = disk.done[named..].iter().position(|(w, p)| *w == "sync_dir" && *p == out);
        assert_eq!(next, Some(1), "the name is synced at once");
    }
    let removed = at("rename", &out.join(format!("{DISCARDED}{FINISHED}00000001")));
    assert!(removed > at("rename", &place(&out, 2)) + 1);
}

/// Linux syncs no device that is not a block device; other systems have other exceptions.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_synced_is_told_unless_it_is_a_directory() {
    let null = Path::new("/dev/null");
    assert!(System.sync(&File::open(null).unwrap(), null).is_err());
    System.sync_dir(null).unwrap();
    assert!(System.sync_dir(Path::new("/nowhere")).is_err());
}

#[test]
fn what_was_written_is_read_bit_for_bit() {
    let mut word = 1u64;
    let mut random = move || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    };
    let mut bits = || loop {
        let x = f32::from_bits(random() as u32);
        if x.is_finite() {
            return x;
        }
    };
    let out = tempfile::tempdir().unwrap();
    for step in 0..40u64 {
        // Empty tensors, scalars, and one longer than a piece of writing.
        let lengths = [0, 1, step as usize, if step == 7 { 300_000 } else { 257 }];
        let data: Vec<Vec<f32>> =
            lengths.iter().map(|&n| (0..n).map(|_| bits()).collect()).collect();
        let shapes = [vec![0, 3], vec![], vec![1, step as usize], vec![lengths[3]]];
        let names = ["z", "é \"quoted\"", "a.b", "a"];
        let tensors: Tensors<'_> = (names.iter().zip(&shapes).zip(&data))
            .map(|((name, shape), data)| ((*name).to_owned(), shape.clone(), data.into()))
            .collect();
        let state = serde_json::json!({ "x": f64::from(bits()) / 3.0, "n": u64::MAX - step });
        let texts = vec![("tokenizer.json", format!("é{step}"))];
        let tensors = vec![("model.safetensors", tensors)];
        let contents = Contents { step, best: None, tensors, texts, state: state.clone() };
        write(out.path(), &contents, 2).unwrap();

        let (found, faults) = newest(out.path()).unwrap();
        assert!(faults.is_empty());
        assert_eq!((found.step(), found.state()), (step, &state));
        assert_eq!(found.read_text("tokenizer.json").unwrap(), format!("é{step}"));
        let mut read: Vec<Vec<f32>> = lengths.iter().map(|&n| vec![7.0; n]).collect();
        let wanted = (names.iter().zip(&shapes).zip(&mut read))
            .map(|((name, shape), to)| ((*name).to_owned(), shape.clone(), &mut to[..]));
        found.read_tensors("model.safetensors", wanted).unwrap();
        for (read, data) in read.iter().zip(&data) {
            assert!(read.iter().zip(data).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        // Others read it too.
        let bytes = fs::read(found.path().join("model.safetensors")).unwrap();
        let (start, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        assert_eq!((start + 8) % 8, 0, "data are aligned");
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("a").unwrap().data(), bytemuck::cast_slice::<f32, u8>(&data[3]));
    }
}

#[test]
fn the_same_contents_are_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for out in [&a, &b] {
        write(out.path(), &contents(9, &[1.0, 2.0, 3.0]), 1).unwrap();
    }
    for name in entries(&place(a.path(), 9)).unwrap() {
        let read = |out: &tempfile::TempDir| fs::read(place(out.path(), 9).join(&name)).unwrap();
        assert_eq!(read(&a), read(&b), "{name}");
    }
}

#[test]
fn any_changed_byte_and_any_length_is_noticed() {
    let out = tempfile::tempdir().unwrap();
    for step in 4..=5 {
        write(out.path(), &contents(step, &[step as f32, 1.0, 2.0]), 3).unwrap();
    }
    let newest_is = |step: u64, faults: usize, what: &str| {
        let (found, skipped) = newest(out.path()).unwrap();
        assert_eq!((found.step(), skipped.len()), (step, faults), "{what}");
    };
    let directory = place(out.path(), 5);
    let names = entries(&directory).unwrap();
    assert_eq!(names.len(), 5);
    for name in names {
        let path = directory.join(&name);
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            for flip in [1, 0x10, 0x80] {
                let mut damaged = whole.clone();
                damaged[i] ^= flip;
                fs::write(&path, damaged).unwrap();
                newest_is(4, 1, &format!("{name}: byte {i} ^ {flip}"));
            }
            fs::write(&path, &whole[..i]).unwrap();
            newest_is(4, 1, &format!("{name}: {i} bytes"));
        }
        fs::write(&path, [&whole[..], b" "].concat()).unwrap();
        newest_is(4, 1, &format!("{name}: a byte more"));
        fs::remove_file(&path).unwrap();
        newest_is(4, 1, &format!("{name} is missing"));
        fs::write(&path, &whole).unwrap();
        newest_is(5, 0, &name);
    }
    assert_eq!(steps(out.path()), [5, 4], "nothing was removed");
}

/// Changes `state.json` and seals it again: what an old program or a person might leave.
fn tamper(directory: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = directory.join("state.json");
    let mut state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["seal"] = NO_SEAL.into();
    change(&mut state);
    // The keys are in alphabetical order now, so the seal has to come first again.
    state["state"] = serde_json::Value::Null;
    let text = state.to_string();
    let sealed = text.replacen(NO_SEAL, &seal_of(&text, NO_SEAL), 1);
    fs::write(path, sealed).unwrap();
}

#[test]
fn sealed_but_wrong_states_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value), says: &str| {
        let directory = write(out.path(), &contents(1, &[1.0]), 1).unwrap();
        tamper(&directory, change);
        let error = newest(out.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(directory.join("model.safetensors").exists());
    };
    refused(&|s| s["format"] = 3.into(), "is of format 3, this program reads 2");
    refused(&|s| s["format"] = "x".into(), "is not a state");
    refused(&|s| s["unknown"] = 3.into(), "unknown field");
    let sum = serde_json::json!({ "bytes": 0, "sha256": "" });
    refused(&|s| s["files"]["../../etc/passwd"] = sum.clone(), "names a file elsewhere");
    refused(&|s| s["files"]["/etc/passwd"] = sum.clone(), "names a file elsewhere");
    refused(&|s| s["files"]["absent"] = sum.clone(), "absent");
    refused(&|s| s["files"]["config.json"]["sha256"] = "é".into(), "was written");
    // As it is, the changed state would be taken: the cases above are refused for what they say.
    let directory = write(out.path(), &contents(1, &[1.0]), 1).unwrap();
    tamper(&directory, |_| ());
    newest(out.path()).unwrap();
}

/// A checkpoint whose model file is `bytes`, with the right checksum.
fn with_model(out: &Path, bytes: &[u8]) -> Checkpoint {
    let directory = write(out, &contents(1, &[1.0]), 1).unwrap();
    fs::write(directory.join("model.safetensors"), bytes).unwrap();
    let sum = checksum(&directory.join("model.safetensors")).unwrap();
    tamper(&directory, |s| {
        s["files"]["model.safetensors"] = serde_json::to_value(&sum).unwrap();
    });
    newest(out).unwrap().0
}

#[test]
fn malformed_tensors_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let file = |length: u64, header: &str, data: &[u8]| {
        [&length.to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let whole = |header: &str, data: &[u8]| file(header.len() as u64, header, data);
    let tensor = |kind: &str, shape: &str, end: u64| {
        format!(r#"{{"w":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let nan: Vec<u8> = [1.0, f32::NAN].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
    let cases = [
        (vec![], "not even a header"),
        (file(u64::MAX, "{}", &[]), "claims a header of 18446744073709551615 bytes"),
        (file(1 << 40, "{}", &[]), "claims a header of 1099511627776 bytes"),
        (file(3, "{}", &[]), "claims a header of 3 bytes in a file of 10"),
        (whole("{]", &[]), "is not a safetensors file"),
        (whole("{}", &[]), "has no tensor `w`"),
        (whole("{}", &[0]), "its header speaks of 10"),
        (whole(&tensor("F32", "[2]", 8), &[0; 7]), "its header speaks of"),
        (whole(&tensor("F32", "[2]", 4), &[0; 4]), "is not a safetensors file"),
        (whole(&tensor("F32", "[4294967296,4294967296,2]", 0), &[]), "is not a safetensors file"),
        (whole(&tensor("F32", "[2]", u64::MAX - 7), &[]), "is not a safetensors file"),
        (whole(&tensor("F32", "[3]", 12), &[0; 12]), "expected F32 [2]"),
        (whole(&tensor("F16", "[2]", 4), &[0; 4]), "`w` is F16 [2]"),
        (whole(&tensor("F32", "[2]", 8), &nan), "element 1 of `w` is NaN"),
    ];
    for (bytes, says) in cases {
        let found = with_model(out.path(), &bytes);
        let mut to = [0.0f32; 2];
        let wanted = [("w".to_owned(), vec![2], &mut to[..])];
        let error = found.read_tensors("model.safetensors", wanted).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("model.safetensors"), "{says}: {error}");
    }
    let found = with_model(out.path(), &whole(&tensor("F32", "[2]", 8), &[0; 8]));
    let mut to = [1.0f32; 2];
    let wanted = [("w".to_owned(), vec![2], &mut to[..])];
    found.read_tensors("model.safetensors", wanted).unwrap();
    assert_eq!(to, [0.0; 2]);
    let error = found.read_text("log.jsonl").unwrap_err().to_string();
    assert!(error.contains("not one of the files"), "{error}");
}

#[test]
fn diverged_weights_never_push_out_good_ones() {
    let out = tempfile::tempdir().unwrap();
    write(out.path(), &contents(1, &[1.0]), 1).unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![0.5f32; 10_000];
        values[8_191] = value;
        let error = write(out.path(), &contents(2, &values), 1).unwrap_err().to_string();
        assert!(error.contains("element 8191 of `w` is"), "{error}");
    }
    assert_eq!(layout(out.path()), (vec![1], [Some(name_of(1)), None]));
}

#[test]
fn contents_that_make_no_file_are_refused() {
    let out = tempfile::tempdir().unwrap();
    for (tensors, says) in [
        (vec![("w".to_owned(), vec![2], vec![1.0f32; 3].into())], "cannot write"),
        (
            vec![
                ("w".to_owned(), vec![1], vec![1.0].into()),
                ("w".to_owned(), vec![1], vec![2.0].into()),
            ],
            "two tensors",
        ),
    ] {
        let tensors = vec![("model.safetensors", tensors)];
        let contents = Contents {
            step: 1,
            best: None,
            tensors,
            texts: vec![],
            state: serde_json::Value::Null,
        };
        let error = write(out.path(), &contents, 1).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for name in ["../config.json", "a/b", "..", "", "/etc/x"] {
        let mut bad = contents(1, &[1.0]);
        bad.texts.push((name, String::new()));
        let error = write(out.path(), &bad, 1).unwrap_err().to_string();
        assert!(error.contains("not a plain file name"), "{error}");
    }
    assert!(entries(out.path()).unwrap().is_empty());
}

#[test]
fn a_damaged_newer_checkpoint_does_not_cost_the_good_one() {
    let out = tempfile::tempdir().unwrap();
    for step in [3, 6, 9] {
        write(out.path(), &contents(step, &[1.0]), 3).unwrap();
    }
    for step in [6, 9] {
        fs::write(place(out.path(), step).join("config.json"), "?").unwrap();
    }
    let (found, faults) = newest(out.path()).unwrap();
    assert_eq!((found.step(), faults.len()), (3, 2));
    // The run goes on from 3; only one checkpoint is kept, and it is the one that verifies.
    write(out.path(), &contents(4, &[1.0]), 1).unwrap();
    assert_eq!(newest(out.path()).unwrap().0.step(), 4);
    write(out.path(), &contents(6, &[1.0]), 1).unwrap();
    assert_eq!(newest(out.path()).unwrap().0.step(), 6);
    write(out.path(), &contents(9, &[1.0]), 1).unwrap();
    assert_eq!(steps(out.path()), [9], "by and by the damaged ones are replaced");
}

#[test]
fn the_last_few_are_kept() {
    let out = tempfile::tempdir().unwrap();
    for step in 1..=5 {
        write(out.path(), &contents(step, &[step as f32]), 3).unwrap();
    }
    assert_eq!(steps(out.path()), [5, 4, 3]);
    write(out.path(), &contents(6, &[6.0]), 0).unwrap();
    assert_eq!(steps(out.path()), [6], "at least one");
}

#[test]
fn half_written_and_half_removed_directories_are_never_taken() {
    let out = tempfile::tempdir().unwrap();
    assert!(newest(out.path()).unwrap_err().to_string().contains("no checkpoint here"));
    assert!(
        newest(&out.path().join("none")).unwrap_err().to_string().contains("no checkpoint here")
    );
    write(out.path(), &contents(1, &[1.0]), 2).unwrap();
    let whole = place(out.path(), 1);
    for prefix in [UNFINISHED, DISCARDED] {
        let half = out.path().join(format!("{prefix}{FINISHED}00000002"));
        fs::create_dir(&half).unwrap();
        fs::copy(whole.join("state.json"), half.join("state.json")).unwrap();
    }
    fs::write(out.path().join(format!("{UNFINISHED}file")), "not a directory").unwrap();
    fs::write(out.path().join("log.jsonl"), "").unwrap();
    assert_eq!(newest(out.path()).unwrap().0.step(), 1);
    remove_unfinished(out.path()).unwrap();
    let mut left = entries(out.path()).unwrap();
    left.sort();
    assert_eq!(left, ["latest", "log.jsonl", "step-00000001"]);
}

#[test]
fn one_writer_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("deep/er");
    assert_eq!(Lock::holder(&out), None);
    let first = Lock::acquire(&out).unwrap();
    assert_eq!(Lock::holder(&out), Some(std::process::id()));
    let error = Lock::acquire(&out).unwrap_err().to_string();
    assert!(error.contains("another run") && error.contains("deep"), "{error}");
    drop(first);
    Lock::acquire(&out).unwrap();
}

#[test]
fn a_directory_that_holds_only_the_lock_can_be_removed() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let _lock = Lock::acquire(&out).unwrap();
    Lock::remove(&out).unwrap();
    assert!(!out.exists());
    let _lock = Lock::acquire(&out).unwrap();
    fs::write(out.join("note"), "").unwrap();
    assert!(Lock::remove(&out).is_err() && out.join("note").exists());
}
