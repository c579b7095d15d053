//! Whole numbers on the command line.

use std::fmt::Display;
use std::str::FromStr;

/// Returns a parser of whole numbers from `least` on, whose error names what is allowed.
pub(crate) fn whole<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| {
        let too_large = || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if value >= least => Ok(value),
            Err(_) if too_large() => {
                Err("larger than any number that this program counts".to_owned())
            }
            _ => Err(format!("must be a whole number of at least {least}")),
        }
    }
}

/// Has every option take a value that begins with a minus: what is wrong with it is for the option
/// to say.
pub(crate) fn may_be_negative(command: clap::Command) -> clap::Command {
    let accept = |arg: clap::Arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(accept).mut_subcommands(may_be_negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_answered_with_what_is() {
        let positive = whole(1u32);
        assert_eq!((positive("1"), positive("4294967295")), (Ok(1), Ok(u32::MAX)));
        for wrong in ["0", "-1", "", "1.5", "many", "1e3"] {
            assert_eq!(positive(wrong), Err("must be a whole number of at least 1".to_owned()));
        }
        assert!(positive("4294967296").unwrap_err().starts_with("larger than"));
        assert_eq!(whole(0usize)("0"), Ok(0));
    }
}
