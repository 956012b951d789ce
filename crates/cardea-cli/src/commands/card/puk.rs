//! The PUK of a new card: typed, read, generated, or none.

use cardea_client::message::SecretBytes;
use zeroize::Zeroizing;

use crate::arguments::CreateArguments;
use crate::exit::{Exit, Failure};
use crate::policy::Policy;
use crate::terminal::prompt;
use crate::terminal::secret::{self, Source};

/// How the card gets its PUK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Somebody is at the terminal, and no option says it.
    Ask,
    Generated,
    /// Typed twice, or read from a file or descriptor.
    Given,
    None,
}

impl Choice {
    /// `offers`: somebody can be asked, and nobody else could unblock the PIN.
    pub(super) fn of(arguments: &CreateArguments, offers: bool) -> Self {
        if arguments.generate_puk {
            Self::Generated
        } else if arguments.puk || arguments.puk_file.is_some() || arguments.puk_fd.is_some() {
            Self::Given
        } else if offers && !arguments.no_puk {
            Self::Ask
        } else {
            Self::None
        }
    }
}

/// Asks, after saying what each answer means. `tries`: wrong PINs that block the PIN.
pub(super) fn ask(tries: Option<u32>) -> Result<Choice, Failure> {
    let tries = tries.unwrap_or(DEFAULT_TRIES);
    let question = format!(
        "After {tries} wrong PINs in a row the PIN is blocked.\n\
         Only a PUK can unblock it; without one, the card and its keys are lost then.\n  \
         g  generate a PUK and show it once\n  \
         t  type one\n  \
         n  no PUK\n"
    );
    let answers = [
        ("g", Choice::Generated),
        ("t", Choice::Given),
        ("n", Choice::None),
    ];
    prompt::choose(
        &question,
        "PUK",
        &answers,
        "--generate-puk, --puk-file or --no-puk",
    )
}

/// The PUK that was chosen.
pub(super) fn obtain(choice: Choice, source: &Source<'_>) -> Result<Option<SecretBytes>, Failure> {
    match choice {
        Choice::Ask | Choice::None => Ok(None),
        Choice::Given => secret::new("PUK", source, &Policy::puk()).map(Some),
        Choice::Generated => generate().map(Some),
    }
}

/// Shown before the card exists: whoever interrupts now has no card with a PUK that nobody knows.
fn generate() -> Result<SecretBytes, Failure> {
    let digits = random_digits()?;
    let mut text = Zeroizing::new(String::with_capacity(160));
    text.push_str("PUK: ");
    digits
        .iter()
        .for_each(|digit| text.push(char::from(*digit)));
    text.push_str("\nIt is not shown again: write it down, then press Enter. ");
    prompt::ask_shown(&text).map_err(|error| {
        Failure::usage(format!(
            "cannot show a PUK on a terminal ({error}); use --puk-file or --no-puk"
        ))
    })?;
    Ok(SecretBytes::new(digits.to_vec()))
}

fn random_digits() -> Result<Zeroizing<[u8; DIGITS]>, Failure> {
    let mut digits = Zeroizing::new([0; DIGITS]);
    let mut byte = Zeroizing::new([0; 1]);
    for digit in digits.iter_mut() {
        // Bytes from 250 on would make the first six digits more frequent than the others.
        let value = loop {
            getrandom::fill(&mut *byte).map_err(|error| {
                Failure::new(Exit::Failed, format!("no random numbers: {error}"))
            })?;
            let [value] = *byte;
            if value < 250 {
                break value;
            }
        };
        *digit = b'0' + value % 10;
    }
    Ok(digits)
}

/// Wrong PINs that block a card's PIN unless an option says otherwise.
const DEFAULT_TRIES: u32 = 5;

/// As many as OpenSC's programs can enter, and somebody can copy from a screen.
const DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_puks_are_digits_and_differ() {
        let one = random_digits().unwrap();
        assert!(one.iter().all(u8::is_ascii_digit));
        assert_ne!(*one, *random_digits().unwrap());
        assert!(Policy::puk().check("PUK", &*one).is_ok());
    }
}
