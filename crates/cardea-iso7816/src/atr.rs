//! The answer to reset (ISO 7816-3 §8.2).

use thiserror::Error;

/// Most bytes of an ATR, TS included.
const MAX_BYTES: usize = 33;

/// Most historical bytes.
const MAX_HISTORICAL: usize = 15;

/// An answer to reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atr {
    /// How the card codes bits.
    pub convention: Convention,
    /// TA1, TB1, TC1: valid for all protocols.
    pub global: InterfaceBytes,
    /// For each TDi its protocol (T=0 to T=15) and the interface bytes that follow it.
    pub protocols: Vec<(u8, InterfaceBytes)>,
    /// The historical bytes (ISO 7816-4 §12.1.1), at most 15.
    pub historical: Vec<u8>,
}

/// How a card codes bits; TS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// TS is `3B`.
    Direct,
    /// TS is `3F`.
    Inverse,
}

/// One group of interface bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceBytes {
    /// TAi.
    pub ta: Option<u8>,
    /// TBi.
    pub tb: Option<u8>,
    /// TCi.
    pub tc: Option<u8>,
}

/// Why bytes are not an ATR, or an ATR not bytes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtrError {
    /// The exclusive or of all bytes from T0 on is not zero.
    #[error("the check byte of the ATR is invalid")]
    CheckByte,
    /// TS is neither `3B` nor `3F`.
    #[error("an ATR does not begin with {0:02X}")]
    InitialByte(u8),
    /// More bytes than an ATR may have, or bytes after its end.
    #[error("the ATR is too long")]
    TooLong,
    /// The bytes end before the ATR does.
    #[error("the ATR is cut short")]
    Truncated,
    /// A protocol beyond T=15.
    #[error("there is no protocol T={0}")]
    Protocol(u8),
}

impl Atr {
    /// An ATR that offers `protocols` and tells nothing else about the interface.
    #[must_use]
    pub fn new(protocols: &[u8], historical: &[u8]) -> Self {
        Self {
            convention: Convention::Direct,
            global: InterfaceBytes::default(),
            protocols: protocols
                .iter()
                .map(|&protocol| (protocol, InterfaceBytes::default()))
                .collect(),
            historical: historical.to_vec(),
        }
    }

    /// Reads an ATR and checks TCK, which is there when another protocol than T=0 is offered.
    ///
    /// # Errors
    /// [`AtrError`]: the bytes are not an ATR.
    pub fn parse(atr: &[u8]) -> Result<Self, AtrError> {
        if atr.len() > MAX_BYTES {
            return Err(AtrError::TooLong);
        }
        let (&ts, checked) = atr.split_first().ok_or(AtrError::Truncated)?;
        let convention = match ts {
            0x3B => Convention::Direct,
            0x3F => Convention::Inverse,
            _ => return Err(AtrError::InitialByte(ts)),
        };
        let mut rest = checked;
        let t0 = take(&mut rest)?;
        let (global, mut td) = InterfaceBytes::parse(t0, &mut rest)?;
        let mut protocols = Vec::new();
        while let Some(present) = td {
            let (group, next) = InterfaceBytes::parse(present, &mut rest)?;
            protocols.push((present & 0x0F, group));
            td = next;
        }
        let (historical, check) = rest
            .split_at_checked(usize::from(t0 & 0x0F))
            .ok_or(AtrError::Truncated)?;
        let atr = Self {
            convention,
            global,
            protocols,
            historical: historical.to_vec(),
        };
        match (atr.has_check_byte(), check) {
            (false, []) => Ok(atr),
            (true, []) => Err(AtrError::Truncated),
            (true, [_]) if exclusive_or(checked) == 0 => Ok(atr),
            (true, [_]) => Err(AtrError::CheckByte),
            _ => Err(AtrError::TooLong),
        }
    }

    /// The bytes of the ATR, with TCK where it belongs.
    ///
    /// # Errors
    /// [`AtrError::TooLong`] and [`AtrError::Protocol`]: it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, AtrError> {
        if self.historical.len() > MAX_HISTORICAL {
            return Err(AtrError::TooLong);
        }
        let mut out = vec![match self.convention {
            Convention::Direct => 0x3B,
            Convention::Inverse => 0x3F,
        }];
        // T0 and each TDi announce the group that follows them; their low half is theirs alone.
        let mut low = self.historical.len() as u8;
        let mut group = self.global;
        for &(protocol, next) in &self.protocols {
            if protocol > 0x0F {
                return Err(AtrError::Protocol(protocol));
            }
            out.push(group.presence() | 0x80 | low);
            out.extend(group.bytes());
            (low, group) = (protocol, next);
        }
        out.push(group.presence() | low);
        out.extend(group.bytes());
        out.extend_from_slice(&self.historical);
        if self.has_check_byte() {
            out.push(exclusive_or(out.get(1..).unwrap_or_default()));
        }
        match out.len() {
            ..=MAX_BYTES => Ok(out),
            _ => Err(AtrError::TooLong),
        }
    }

    /// TCK is absent if only T=0 is offered, by name or by default (ISO 7816-3 §8.2.5).
    fn has_check_byte(&self) -> bool {
        self.protocols.iter().any(|&(protocol, _)| protocol != 0)
    }
}

impl InterfaceBytes {
    /// The group that `present` (T0 or TDi) announces, and the next TD.
    fn parse(present: u8, rest: &mut &[u8]) -> Result<(Self, Option<u8>), AtrError> {
        let mut take_if = |bit: u8| (present & bit != 0).then(|| take(rest)).transpose();
        let group = Self {
            ta: take_if(0x10)?,
            tb: take_if(0x20)?,
            tc: take_if(0x40)?,
        };
        Ok((group, take_if(0x80)?))
    }

    fn presence(self) -> u8 {
        let bit = |byte: Option<u8>, bit| if byte.is_some() { bit } else { 0 };
        bit(self.ta, 0x10) | bit(self.tb, 0x20) | bit(self.tc, 0x40)
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        [self.ta, self.tb, self.tc].into_iter().flatten()
    }
}

fn take(rest: &mut &[u8]) -> Result<u8, AtrError> {
    let (&byte, more) = rest.split_first().ok_or(AtrError::Truncated)?;
    *rest = more;
    Ok(byte)
}

fn exclusive_or(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of Microsoft's TPM virtual smart card.
    const MICROSOFT: [u8; 17] = [
        0x3B, 0x8D, 0x01, 0x80, 0xFB, 0xA0, 0x00, 0x00, 0x03, 0x97, 0x42, 0x54, 0x46, 0x59, 0x04,
        0x01, 0xCF,
    ];

    /// Of JCOP cards, with TA, TB and TC bytes and two TD bytes.
    const JCOP: [u8; 20] = [
        0x3B, 0xF9, 0x13, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x45, 0x4A, 0x43, 0x4F, 0x50, 0x32, 0x34,
        0x32, 0x52, 0x33, 0xA2, 0x00,
    ];

    #[test]
    fn known_atr_is_read() {
        let atr = Atr::parse(&MICROSOFT).unwrap();
        assert_eq!(atr, Atr::new(&[1], &MICROSOFT[3..16]));
        assert_eq!(atr.to_bytes().unwrap(), MICROSOFT);
    }

    #[test]
    fn interface_bytes_are_read() {
        let atr = Atr::parse(&JCOP[..19]).unwrap();
        assert_eq!(
            atr.global,
            InterfaceBytes {
                ta: Some(0x13),
                tb: Some(0),
                tc: Some(0)
            }
        );
        let t1 = InterfaceBytes {
            ta: Some(0xFE),
            tb: Some(0x45),
            tc: None,
        };
        assert_eq!(atr.protocols, [(1, InterfaceBytes::default()), (1, t1)]);
        assert_eq!(atr.historical, b"JCOP242R3");
    }

    #[test]
    fn wrong_check_byte_is_refused() {
        let mut atr = MICROSOFT;
        atr[16] ^= 1;
        assert_eq!(Atr::parse(&atr), Err(AtrError::CheckByte));
    }

    #[test]
    fn t0_alone_has_no_check_byte() {
        assert_eq!(Atr::new(&[], b"AB").to_bytes().unwrap(), *b"\x3B\x02AB");
        assert_eq!(
            Atr::new(&[0], b"AB").to_bytes().unwrap(),
            *b"\x3B\x82\x00AB"
        );
        assert_eq!(
            Atr::new(&[0, 1], b"").to_bytes().unwrap(),
            [0x3B, 0x80, 0x80, 0x01, 0x01]
        );
        assert_eq!(Atr::parse(b"\x3B\x02AB\x00"), Err(AtrError::TooLong));
    }

    #[test]
    fn every_cut_is_refused() {
        for cut in 0..MICROSOFT.len() {
            assert_eq!(
                Atr::parse(&MICROSOFT[..cut]),
                Err(AtrError::Truncated),
                "{cut}"
            );
        }
        assert_eq!(Atr::parse(&JCOP), Err(AtrError::TooLong));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        assert_eq!(Atr::new(&[1], &[0; 16]).to_bytes(), Err(AtrError::TooLong));
        assert_eq!(
            Atr::new(&[1; 20], &[0; 15]).to_bytes(),
            Err(AtrError::TooLong)
        );
        assert_eq!(Atr::new(&[16], &[]).to_bytes(), Err(AtrError::Protocol(16)));
        assert_eq!(Atr::parse(&[0x3C, 0]), Err(AtrError::InitialByte(0x3C)));
    }

    fn groups() -> impl Strategy<Value = InterfaceBytes> {
        any::<[Option<u8>; 3]>().prop_map(|[ta, tb, tc]| InterfaceBytes { ta, tb, tc })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            inverse: bool,
            global in groups(),
            protocols in proptest::collection::vec((0..16_u8, groups()), 0..4),
            historical in proptest::collection::vec(any::<u8>(), 0..=13),
        ) {
            let convention = if inverse { Convention::Inverse } else { Convention::Direct };
            let atr = Atr { convention, global, protocols, historical };
            if let Ok(bytes) = atr.to_bytes() {
                prop_assert_eq!(Atr::parse(&bytes), Ok(atr));
            }
        }

        #[test]
        fn what_is_read_is_written_back(tail in proptest::collection::vec(any::<u8>(), 0..34)) {
            let bytes = [&[0x3B], tail.as_slice()].concat();
            if let Ok(atr) = Atr::parse(&bytes) {
                prop_assert_eq!(atr.to_bytes(), Ok(bytes));
            }
        }
    }
}
