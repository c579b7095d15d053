//! Power by IOReport: counters of energy that need no privilege.
//!
//! IOReport is a private library (`/usr/lib/libIOReport.dylib`, in the shared cache since macOS 11)
//! without a header; functions, their arguments and who owns what are as published tools have them
//! (macmon, socpowerbud, WattSec). Channels of the group `Energy Model` are subscribed to once; a
//! reading is the difference of two samples. Which channels there are depends on the chip: see
//! [`Tally`].

#![allow(unsafe_code, reason = "IOReport is a C library")]

use super::core_foundation::{CfRef, CoreFoundation, Owned};
use super::dynamic::{Libraries, Library, functions, unavailable};
use crate::readings::Tally;
use ane::AneError;
use ane::PowerSample;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::time::Instant;

functions! {
    /// The functions that are used. The second argument of the last is an index in one published
    /// header and a pointer that may be null in another: a whole register of zeros is both.
    struct Functions {
        channels = c"IOReportCopyChannelsInGroup"(CfRef, CfRef, u64, u64, u64) -> CfRef;
        subscribe = c"IOReportCreateSubscription"(
            *mut c_void, CfRef, *mut CfRef, u64, CfRef
        ) -> CfRef;
        sample = c"IOReportCreateSamples"(CfRef, CfRef, CfRef) -> CfRef;
        difference = c"IOReportCreateSamplesDelta"(CfRef, CfRef, CfRef) -> CfRef;
        name = c"IOReportChannelGetChannelName"(CfRef) -> CfRef;
        unit = c"IOReportChannelGetUnitLabel"(CfRef) -> CfRef;
        value = c"IOReportSimpleGetIntegerValue"(CfRef, usize) -> i64;
    }
}

/// The group of the counters of energy.
const GROUP: &str = "Energy Model";

/// The unusable part, in messages.
const WHAT: &str = "IOReport";

fn failed(reason: &str) -> AneError {
    AneError::Unavailable { what: WHAT, reason: reason.to_owned() }
}

/// Reads what the parts of the chip draw, from one reading to the next.
///
/// Everything that was created is released when it is dropped.
#[derive(Debug)]
pub struct PowerMeter {
    functions: Functions,
    foundation: CoreFoundation,
    /// The key of the channels in a sample.
    key: Owned,
    subscription: Owned,
    channels: Owned,
    /// The sample before the next, and when it was taken.
    last: (Owned, Instant),
}

impl PowerMeter {
    /// Subscribes to the counters and takes the first sample.
    ///
    /// # Errors
    /// When the library or one of its functions is missing (all that are, are named), or the system
    /// gives no channels, no subscription or no sample.
    pub fn open(libraries: &Libraries) -> Result<Self, AneError> {
        let named = unavailable(WHAT);
        let foundation = CoreFoundation::open(libraries).map_err(&named)?;
        let library = Library::open(&libraries.io_report).map_err(&named)?;
        let functions = Functions::load(&library).map_err(&named)?;
        let string = |text| foundation.string(text).ok_or_else(|| failed("no string was made"));
        let (group, key) = (string(GROUP)?, string("IOReportChannels")?);
        // SAFETY: a string, and no subgroup; what is copied is ours.
        let found =
            unsafe { foundation.owned((functions.channels)(group.get(), null_mut(), 0, 0, 0)) };
        let found = found.ok_or_else(|| failed("the system has no counters of energy"))?;
        // SAFETY: an object.
        let wanted = unsafe { foundation.mutable_copy(found.get()) };
        let wanted = wanted.ok_or_else(|| failed("the counters of energy are no dictionary"))?;
        let mut subscribed: CfRef = null_mut();
        // SAFETY: a dictionary that can be changed, and a place for another; both that and the
        // subscription are ours.
        let (subscription, subscribed) = unsafe {
            let subscription =
                (functions.subscribe)(null_mut(), wanted.get(), &mut subscribed, 0, null_mut());
            (foundation.owned(subscription), foundation.owned(subscribed))
        };
        let subscription = subscription.ok_or_else(|| failed("the system gave no subscription"))?;
        let channels = subscribed.unwrap_or(wanted);
        let first = sample(&functions, &foundation, &subscription, &channels)?;
        let last = (first, Instant::now());
        Ok(PowerMeter { functions, foundation, key, subscription, channels, last })
    }

    /// Mean power since the last reading (or since the meter was opened). Parts without a channel of
    /// theirs, or with one that cannot be understood, are `None`.
    ///
    /// # Errors
    /// When the system gives no sample.
    pub fn read(&mut self) -> Result<PowerSample, AneError> {
        let PowerMeter { functions, foundation, key, subscription, channels, last } = self;
        let now = sample(functions, foundation, subscription, channels)?;
        let at = Instant::now();
        // SAFETY: two samples of one subscription; what is created is ours.
        let difference = unsafe {
            foundation.owned((functions.difference)(last.0.get(), now.get(), null_mut()))
        };
        let difference = difference.ok_or_else(|| failed("two samples have no difference"))?;
        let mut tally = Tally::default();
        // SAFETY: the difference is an object, and lives until the end of this function; its channels
        // are dictionaries, as asked; names and labels belong to them.
        unsafe {
            for channel in foundation.dictionaries(difference.get(), key) {
                let name = foundation.text((functions.name)(channel));
                let unit = foundation.text((functions.unit)(channel));
                if let Some(name) = name {
                    let value = (functions.value)(channel, 0);
                    tally.add(&name, &unit.unwrap_or_default(), value);
                }
            }
        }
        let seconds = (at - last.1).as_secs_f64();
        *last = (now, at);
        Ok(tally.over(seconds))
    }
}

fn sample(
    functions: &Functions,
    foundation: &CoreFoundation,
    subscription: &Owned,
    channels: &Owned,
) -> Result<Owned, AneError> {
    // SAFETY: a subscription and its channels; what is created is ours.
    let sample = unsafe {
        let sample = (functions.sample)(subscription.get(), channels.get(), null_mut());
        foundation.owned(sample)
    };
    sample.ok_or_else(|| failed("the system gave no sample"))
}
