//! Wrong PINs on one card, and what they do to everybody else.

use cardea_card::token::PinReference;
use cardea_testkit::bare::BarePins as _;

use crate::bench::{Bench, Kind, Outcome, PIN, PUK, WRONG_PIN, pin, succeeds_if};

/// TPM_PT_LOCKOUT_COUNTER and TPM_PT_PERMANENT (TPM 2.0 Part 2 §6.13).
const LOCKOUT_COUNTER: u32 = 0x20E;
const PERMANENT: u32 = 0x200;
const IN_LOCKOUT: u32 = 1 << 9;

pub(crate) fn thirty_wrong_pins() -> Outcome {
    let bench = Bench::new();
    let victim = bench.numbered(Kind::Puk, 1);
    let others = [bench.numbered(Kind::Plain, 2), bench.numbered(Kind::Puk, 3)];
    assert_eq!(bench.property(LOCKOUT_COUNTER), 0);
    let mut token = bench.service.token(&victim).unwrap();
    for _ in 0..30 {
        assert!(token.verify(PinReference::Pin, &pin(WRONG_PIN)).is_err());
        let change = token.change(PinReference::Pin, &pin(WRONG_PIN), &pin(PIN));
        assert!(change.is_err());
        assert!(token.verify(PinReference::Puk, &pin(WRONG_PIN)).is_err());
    }
    let lockout = bench.property(LOCKOUT_COUNTER);
    succeeds_if!(
        lockout != 0 || bench.property(PERMANENT) & IN_LOCKOUT != 0,
        "the TPM's lockout counts {lockout}"
    );
    succeeds_if!(
        bench.accepts(&victim, PIN),
        "the card takes its PIN after thirty wrong ones"
    );
    for other in &others {
        succeeds_if!(
            bench.failures(other) != 0 || !bench.accepts(other, PIN),
            "another card is touched"
        );
    }
    let mut token = bench.service.token(&others[1]).unwrap();
    succeeds_if!(
        token.verify(PinReference::Puk, &pin(PUK)).is_err(),
        "another card's PUK is touched"
    );
    Ok(())
}
