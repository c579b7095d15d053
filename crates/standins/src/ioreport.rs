//! IOReport: counters of energy that rise by known amounts from one sample to the next.

use crate::control::{fault, is_on, violation};
use crate::foundation::{
    array, dictionary, make_array, make_dictionary, make_number, number, string, text, value,
};
use crate::runtime::{Body, Id, Table, body, class_name, make};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, Ordering};

/// A subscription to channels.
#[derive(Debug)]
struct Subscription;

impl Body for Subscription {}

pub(crate) fn classes() -> Vec<Table> {
    vec![("IOReportSubscription", vec![], vec![])]
}

/// A counter: name, label of its unit, and what is added to it per sample.
type Channel = (&'static str, &'static str, i64);

/// A chip of one die: 0.5, 2, 1 and 0.25 J per sample, and channels that are parts of others or of
/// nothing that is asked for.
const CHANNELS: [Channel; 9] = [
    ("ECPU0", "mJ", 600),
    ("ECPU", "mJ", 600),
    ("CPU Energy", "mJ", 2_000),
    ("GPU Energy", "nJ", 1_000_000_000),
    ("GPU SRAM0", "nJ", 77),
    ("ANE", "mJ  ", 500),
    ("DRAM", "uJ", 250_000),
    ("AMCC0", "mJ", 13),
    ("DISP0", "mJ", 90),
];

/// A chip of two dies, with the same sums.
const TWO_DIES: [Channel; 6] = [
    ("DIE_0_CPU Energy", "mJ", 1_500),
    ("DIE_1_CPU Energy", "mJ", 500),
    ("GPU Energy", "nJ", 1_000_000_000),
    ("ANE0_0", "mJ", 400),
    ("ANE0_1", "mJ", 100),
    ("DRAM0", "uJ", 250_000),
];

/// The channels of the chip that faults make it.
fn channels() -> Vec<Channel> {
    let all = if is_on("two dies") { &TWO_DIES[..] } else { &CHANNELS };
    let there = |channel: &&Channel| !(is_on("no ane channel") && channel.0.starts_with("ANE"));
    let unit = |channel: &Channel| match is_on("strange unit") && channel.0.starts_with("ANE") {
        true => (channel.0, "kWh", channel.2),
        false => *channel,
    };
    all.iter().filter(there).map(unit).collect()
}

const LIST: &str = "IOReportChannels";

/// A list of channels with values, owned by the caller.
fn listing(class: &str, values: impl Fn(&Channel) -> i64) -> Id {
    let one = |channel: &Channel| {
        let entries = vec![
            ("IOReportGroupName", string("Energy Model")),
            ("name", string(channel.0)),
            ("unit", string(channel.1)),
            ("value", make_number(values(channel))),
        ];
        make_dictionary("NSDictionary", entries)
    };
    let list = make_array(channels().iter().map(one).collect());
    make_dictionary(class, vec![(LIST, list)])
}

/// The values of what lists channels; a violation and nothing for anything else.
fn values(listing: Id) -> Vec<i64> {
    let list = dictionary(listing).and_then(|_| array(value(listing, LIST)?));
    let Some(list) = list else {
        violation("what lists no channels was given as channels or as a sample");
        return vec![];
    };
    list.iter().filter_map(|channel| number(value(channel.0, "value")?)).collect()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportCopyChannelsInGroup(
    group: Id,
    subgroup: Id,
    a: u64,
    b: u64,
    c: u64,
) -> Id {
    if text(group) != Some("Energy Model") || !subgroup.is_null() || (a, b, c) != (0, 0, 0) {
        violation(format!("channels of {:?} were asked for", text(group)));
    }
    match fault("no channels") {
        true => null_mut(),
        false => listing("NSDictionary", |_| 0),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportCreateSubscription(
    unused: *mut c_void,
    wanted: Id,
    subscribed: *mut Id,
    id: u64,
    options: Id,
) -> Id {
    if !unused.is_null() || id != 0 || !options.is_null() || subscribed.is_null() {
        violation("a subscription with other arguments than null, 0 and null");
        return null_mut();
    }
    if class_name(wanted) != "NSMutableDictionary" {
        violation("a subscription to channels that cannot be changed");
    }
    values(wanted);
    if fault("no subscription") {
        return null_mut();
    }
    if !fault("no subscribed channels") {
        // SAFETY: a place for an object by contract.
        unsafe { *subscribed = listing("NSMutableDictionary", |_| 0) };
    }
    make("IOReportSubscription", Subscription)
}

/// Samples taken so far.
static SAMPLES: AtomicI64 = AtomicI64::new(0);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportCreateSamples(
    subscription: Id,
    subscribed: Id,
    options: Id,
) -> Id {
    if body::<Subscription>(subscription).is_none() || !options.is_null() {
        violation("a sample of what is no subscription");
    }
    if class_name(subscribed) != "NSMutableDictionary" {
        violation("a sample of channels that were not subscribed to");
    }
    values(subscribed);
    let n = SAMPLES.fetch_add(1, Ordering::SeqCst) + 1;
    match (fault("no sample"), fault("counters start anew")) {
        (true, _) => null_mut(),
        (_, true) => listing("NSDictionary", |_| 0),
        _ => listing("NSDictionary", |channel| n * channel.2),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportCreateSamplesDelta(before: Id, after: Id, options: Id) -> Id {
    if !options.is_null() {
        violation("a difference with options");
    }
    let (before, after) = (values(before), values(after));
    if before.len() != after.len() {
        violation("a difference of samples of different channels");
    }
    if fault("no difference") {
        return null_mut();
    }
    let difference: Vec<i64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let at = AtomicI64::new(0);
    listing("NSDictionary", |_| {
        let i = at.fetch_add(1, Ordering::SeqCst) as usize;
        difference.get(i).copied().unwrap_or(0)
    })
}

/// An entry of a channel; null for what is none.
fn entry(channel: Id, key: &str) -> Id {
    let found = dictionary(channel).and_then(|_| value(channel, key));
    found.unwrap_or_else(|| {
        violation(format!("the {key} of what is no channel"));
        null_mut()
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportChannelGetChannelName(channel: Id) -> Id {
    entry(channel, "name")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportChannelGetUnitLabel(channel: Id) -> Id {
    match is_on("no unit") {
        true => null_mut(),
        false => entry(channel, "unit"),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOReportSimpleGetIntegerValue(channel: Id, unused: usize) -> i64 {
    if unused != 0 {
        violation(format!("the value of a channel at {unused}"));
    }
    let value = entry(channel, "value");
    if value.is_null() { i64::MIN } else { number(value).unwrap_or(i64::MIN) }
}
