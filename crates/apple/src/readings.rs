//! The two texts that readings of power come in.
//!
//! Counters of energy by channel (IOReport, read by `PowerMeter`) are added up by [`Tally`]; what the
//! system's tool `powermetrics` prints is read by [`from_powermetrics`]. Either is an estimate of the
//! system for the whole machine, not of one process.

use ane::{AneError, PowerSample};

/// Sums the energy of channels into the parts of a reading.
///
/// A part has one channel for all of it, or numbered ones for its instances; machines of two dies
/// have either per die. Where both kinds are there, only the first is counted, else the same energy
/// would be counted twice. Channels of single cores, caches and controllers belong to no part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Joules by part, of channels for all of it and of numbered ones.
    joules: [[Sum; 2]; 4],
}

/// A sum that is unknown when one of its terms is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Sum {
    #[default]
    Absent,
    Known(f64),
    Unknown,
}

impl Sum {
    fn add(&mut self, joules: Option<f64>) {
        *self = match (*self, joules) {
            (Sum::Absent, Some(joules)) => Sum::Known(joules),
            (Sum::Known(sum), Some(joules)) => Sum::Known(sum + joules),
            _ => Sum::Unknown,
        };
    }
}

impl Tally {
    /// Adds what a channel counted: `value` in the unit of its label (`mJ`, `uJ`, `nJ`). With a label
    /// that is not known, or a count that went backwards (it starts anew when the machine has slept),
    /// the channel's part is unknown.
    pub fn add(&mut self, channel: &str, unit: &str, value: i64) {
        if let Some((part, numbered)) = part_of(channel) {
            let joules = joules_per(unit).filter(|_| value >= 0).map(|j| j * value as f64);
            self.joules[part][usize::from(numbered)].add(joules);
        }
    }

    /// Mean power over `seconds`.
    pub fn over(&self, seconds: f64) -> PowerSample {
        let watts = self.joules.map(|[whole, numbered]| match (whole, numbered) {
            (Sum::Absent, Sum::Known(joules)) | (Sum::Known(joules), _) if seconds > 0.0 => {
                Some(joules / seconds)
            }
            _ => None,
        });
        PowerSample::new(seconds, watts)
    }
}

/// Joules of one count. Labels are padded with spaces on some systems.
fn joules_per(unit: &str) -> Option<f64> {
    match unit.trim() {
        "mJ" => Some(1e-3),
        "uJ" => Some(1e-6),
        "nJ" => Some(1e-9),
        _ => None,
    }
}

/// The part that a channel of the group `Energy Model` belongs to, and whether it is a numbered one:
/// `CPU Energy`, `DIE_1_GPU Energy`, `ANE`, `ANE0_1`, `DRAM0`.
fn part_of(channel: &str) -> Option<(usize, bool)> {
    let channel = match channel.strip_prefix("DIE_").and_then(|rest| rest.split_once('_')) {
        Some((die, rest)) if die.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => channel,
    };
    PowerSample::PARTS.iter().enumerate().find_map(|(part, name)| {
        let rest = channel.strip_prefix(name)?;
        let is_number = rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.bytes().all(|b| b.is_ascii_digit() || b == b'_');
        match rest {
            "" | " Energy" => Some((part, false)),
            _ if is_number => Some((part, true)),
            _ => None,
        }
    })
}

/// Arguments of `powermetrics` for one reading of a second, as a property list.
pub const POWERMETRICS: [&str; 8] =
    ["--samplers", "ane_power,cpu_power", "-i", "1000", "-n", "1", "-f", "plist"];

fn unreadable(reason: &str) -> AneError {
    AneError::Unavailable { what: "powermetrics", reason: reason.to_owned() }
}

/// The last reading in what `powermetrics -f plist` printed: property lists with nulls between them,
/// each a dictionary with `elapsed_ns` and, in the dictionary `processor`, milliwatts (`ane_power`)
/// or, from older systems, millijoules (`ane_energy`) by part.
///
/// # Errors
/// When there is no such list in it.
pub fn from_powermetrics(output: &str) -> Result<PowerSample, AneError> {
    let list = output.split('\0').rfind(|list| list.contains("</plist>"));
    let list = list.ok_or_else(|| unreadable("it printed no property list"))?;
    let mut elapsed = None;
    let (mut milliwatts, mut millijoules) = ([None; 4], [None; 4]);
    each_number(list, &mut |path, key, value| match (path, key.rsplit_once('_')) {
        (&[""], _) if key == "elapsed_ns" => elapsed = Some(value * 1e-9),
        (&["", "processor"], Some((part, kind))) => {
            let part = PowerSample::PARTS.iter().position(|name| name.eq_ignore_ascii_case(part));
            match (part, kind) {
                (Some(part), "power") => milliwatts[part] = Some(value),
                (Some(part), "energy") => millijoules[part] = Some(value),
                _ => {}
            }
        }
        _ => {}
    })
    .ok_or_else(|| unreadable("its property list is damaged"))?;
    let seconds = elapsed.filter(|&s| s > 0.0 && s.is_finite());
    let seconds = seconds.ok_or_else(|| unreadable("its property list has no `elapsed_ns`"))?;
    let watts = |part: usize| {
        let milli = milliwatts[part].or(millijoules[part].map(|joules: f64| joules / seconds));
        milli.filter(|w| w.is_finite() && *w >= 0.0).map(|w| w / 1e3)
    };
    let sample = PowerSample::new(seconds, [0, 1, 2, 3].map(watts));
    match sample.watts() {
        Some(_) => Ok(sample),
        None => Err(unreadable("its property list has no power of any part")),
    }
}

/// Dictionaries and arrays may lie in one another this deep; those of the tool do to 6.
const DEPTH: usize = 32;

/// Calls `found` with the keys of the dictionaries around it (that of the outermost is empty), its
/// own key and its value, for every number of a property list in XML. `None` if the list is not well
/// formed.
fn each_number(list: &str, found: &mut dyn FnMut(&[&str], &str, f64)) -> Option<()> {
    let mut path: Vec<&str> = vec![];
    let mut key = "";
    let mut rest = list;
    while let Some((_, tagged)) = rest.split_once('<') {
        let (tag, after) = tagged.split_once('>')?;
        rest = after;
        let content = || rest.split_once('<').map(|(text, _)| text.trim());
        match tag {
            "key" => key = content()?,
            "integer" | "real" => {
                let value = content()?.parse().ok()?;
                found(&path, key, value);
            }
            "dict" | "array" if path.len() == DEPTH => return None,
            "dict" | "array" => path.push(std::mem::take(&mut key)),
            "/dict" | "/array" => {
                path.pop()?;
            }
            _ => {}
        }
    }
    path.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(channels: &[(&str, &str, i64)]) -> PowerSample {
        let mut tally = Tally::default();
        channels.iter().for_each(|(name, unit, value)| tally.add(name, unit, *value));
        tally.over(2.0)
    }

    #[test]
    fn units_are_those_of_the_label() {
        let sample = tally(&[
            ("ANE", "mJ", 500),
            ("CPU Energy", "uJ   ", 4_000_000),
            ("GPU Energy", "nJ", 6_000_000_000),
        ]);
        let expected = PowerSample::new(2.0, [Some(0.25), Some(2.0), Some(3.0), None]);
        for (got, expected) in sample.parts().into_iter().zip(expected.parts()) {
            // Three roundings: of the unit, of the product, of the quotient.
            let close = |(a, b): (f64, f64)| (a - b).abs() <= 4.0 * f64::EPSILON * b;
            assert!(got.zip(expected).is_none_or(close) && got.is_some() == expected.is_some());
        }
        assert_eq!(sample.to_string(), "ANE 0.25 W, CPU 2.00 W, GPU 3.00 W");
        assert!((sample.watts().unwrap() - 5.25).abs() < 1e-12);
    }

    #[test]
    fn energy_is_counted_once() {
        // One channel for all of the part and its instances; cores, caches and controllers beside.
        let sample = tally(&[
            ("CPU Energy", "mJ", 2000),
            ("ECPU", "mJ", 700),
            ("PCPU0", "mJ", 900),
            ("CPU0", "mJ", 900),
            ("GPU Energy", "mJ", 200),
            ("GPU0", "mJ", 200),
            ("GPU SRAM0", "mJ", 100),
            ("AMCC0", "mJ", 100),
            ("ANE0_SRAM", "mJ", 100),
            ("DIE_x_ANE", "mJ", 100),
        ]);
        assert_eq!(sample.parts(), [None, Some(1.0), Some(0.1), None]);
        // Two dies, numbered instances.
        let sample = tally(&[
            ("DIE_0_CPU Energy", "mJ", 1000),
            ("DIE_1_CPU Energy", "mJ", 3000),
            ("ANE0_0", "mJ", 100),
            ("ANE0_1", "mJ", 300),
            ("DRAM0", "mJ", 500),
            ("DRAM1", "mJ", 500),
        ]);
        assert_eq!(sample.parts(), [Some(0.2), Some(2.0), None, Some(0.5)]);
    }

    #[test]
    fn what_is_not_known_is_no_reading() {
        assert_eq!(tally(&[("ANE", "kWh", 1)]).ane_watts, None);
        assert_eq!(tally(&[("ANE", "mJ", -5)]).ane_watts, None, "the counter started anew");
        assert_eq!(tally(&[("ANE", "mJ", i64::MIN)]).ane_watts, None, "no integer channel");
        assert_eq!(tally(&[("ANE0", "mJ", 1), ("ANE1", "?", 1)]).ane_watts, None);
        // Numbered channels do not stand in for a whole one that cannot be read.
        assert_eq!(tally(&[("ANE", "?", 1), ("ANE0", "mJ", 1)]).ane_watts, None);
        assert_eq!(tally(&[("ANE", "mJ", 0)]).ane_watts, Some(0.0), "idle is a reading");
        assert_eq!(Tally::default().over(1.0).watts(), None);
        let mut tally = Tally::default();
        tally.add("ANE", "mJ", 1);
        assert_eq!(tally.over(0.0).ane_watts, None);
    }

    fn list(processor: &str, more: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST \
             1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n\
             <dict>\n<key>is_delta</key><true/>\n<key>elapsed_ns</key><integer>500000000</integer>\n\
             <key>hw_model</key><string>Mac16,10</string>\n{more}<key>processor</key>\n<dict>\n\
             <key>clusters</key>\n<array>\n<dict>\n<key>name</key><string>E-Cluster</string>\n\
             <key>freq_hz</key><real>1.2e+09</real>\n<key>cpu_power</key><real>9e9</real>\n\
             <key>cpus</key><array/>\n</dict>\n</array>\n{processor}</dict>\n</dict>\n</plist>\n"
        )
    }

    #[test]
    fn powermetrics_of_now_gives_milliwatts() {
        // Tasks have an `ane_energy` of their own, which is not the engine's.
        let text = list(
            "<key>ane_energy</key><integer>1</integer>\n<key>ane_power</key><real>512.5</real>\n\
             <key>cpu_power</key>\n\t<real>2100</real>\n<key>gpu_power</key><real>40</real>\n\
             <key>combined_power</key><real>2652.5</real>\n",
            "<key>tasks</key><array><dict><key>ane_energy</key><integer>7</integer></dict></array>",
        );
        let sample = from_powermetrics(&text).unwrap();
        assert_eq!(sample, PowerSample::new(0.5, [Some(0.5125), Some(2.1), Some(0.04), None]));
    }

    #[test]
    fn powermetrics_of_before_gives_millijoules() {
        let text = list(
            "<key>ane_energy</key><integer>12</integer>\n<key>cpu_energy</key><integer>640</integer>\n\
             <key>gpu_energy</key><integer>305</integer>\n<key>dram_energy</key><integer>89</integer>\n",
            "",
        );
        let first = list("<key>ane_energy</key><integer>1</integer>\n", "");
        // Two samples; the last one that is whole counts.
        for output in [format!("{first}\0{text}"), format!("{text}\0{}", &first[..200])] {
            let watts = [Some(0.024), Some(1.28), Some(0.61), Some(0.178)];
            assert_eq!(from_powermetrics(&output).unwrap(), PowerSample::new(0.5, watts));
        }
    }

    #[test]
    fn powermetrics_that_is_something_else_is_refused() {
        let whole = list("<key>ane_power</key><real>1</real>\n", "");
        for (text, words) in [
            ("powermetrics must be invoked as the superuser\n".to_owned(), "no property list"),
            (String::new(), "no property list"),
            (list("<key>combined_power</key><real>1</real>\n", ""), "no power of any part"),
            (list("<key>ane_power</key><real>nan</real>\n", ""), "no power of any part"),
            (list("<key>ane_power</key><real>-1</real>\n", ""), "no power of any part"),
            (whole.replace("elapsed_ns", "elapsed"), "no `elapsed_ns`"),
            (whole.replace("500000000", "0"), "no `elapsed_ns`"),
            (whole.replace("500000000", "many"), "damaged"),
            (whole.replacen("</dict>", "", 1), "damaged"),
            (format!("{}</plist>", "<dict>".repeat(100_000)), "damaged"),
        ] {
            let error = from_powermetrics(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
            assert!(error.starts_with("powermetrics cannot be used here"), "{error}");
        }
        assert!(from_powermetrics(&whole).is_ok());
        // Cut anywhere, it is refused or read, never a panic.
        for (end, _) in whole.char_indices() {
            let _ = from_powermetrics(&format!("{}</plist>", &whole[..end]));
            let _ = from_powermetrics(&whole[end..]);
        }
    }
}
