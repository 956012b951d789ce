//! The verification trailer that Windows appends to the stub of a request (MS-RPCE §2.2.2.13).
//!
//! It protects against a changed header where headers are not signed.

use crate::bytes::{Buffer, Cursor, padding};
use crate::pdu::error::PduError;
use crate::pdu::header::{LITTLE_ENDIAN, PduKind};
use crate::pdu::syntax::SyntaxId;

/// What a verification trailer must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedCall {
    /// The interface of the presentation context.
    pub interface: SyntaxId,
    /// Its encoding.
    pub transfer: SyntaxId,
    /// The number of the call.
    pub call_id: u32,
    /// The presentation context.
    pub context_id: u16,
    /// The method.
    pub opnum: u16,
    /// Whether the client has offered to sign headers, as far as its offers have arrived.
    pub offers_header_signing: bool,
}

/// What a verification trailer said that the call itself does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerificationTrailer {
    /// The bitmask was there, and agreed; of its bits only [`SIGNS_HEADERS`] means something.
    pub bitmask: Option<u32>,
    /// The presentation context was there, and agreed.
    pub has_context: bool,
    /// A copy of the header was there, and agreed.
    pub has_header: bool,
}

/// Checks what follows the last argument in a stub: nothing, padding, or a verification trailer.
///
/// `used` is how many bytes of the stub the arguments take.
///
/// # Errors
/// [`PduError::Verification`]: something else follows, the trailer contradicts the call, or asks for a check that is
/// not known here.
pub fn check_verification(
    stub: &[u8],
    used: usize,
    call: &ExpectedCall,
) -> Result<Option<VerificationTrailer>, PduError> {
    let rest = stub.get(used..).ok_or(PduError::Verification)?;
    let start = used.next_multiple_of(4);
    let Some(trailer) = stub.get(start..).filter(|trailer| !trailer.is_empty()) else {
        // Less than an alignment: what some encoders round their stubs up with.
        return match rest.len() {
            ..4 => Ok(None),
            _ => Err(PduError::Verification),
        };
    };
    let read = read(trailer, call);
    read.map(Some).map_err(|_| PduError::Verification)
}

fn read(trailer: &[u8], call: &ExpectedCall) -> Result<VerificationTrailer, PduError> {
    let mut from = Cursor::new(trailer);
    if from.array()? != SIGNATURE {
        return Err(PduError::Verification);
    }
    let mut said = VerificationTrailer::default();
    loop {
        let command = from.u16()?;
        let length = usize::from(from.u16()?);
        let data = from.take(length)?;
        match command & COMMAND {
            BITMASK => {
                let mut data = Cursor::new(data);
                let bits = data.u32()?;
                end(&data)?;
                // Whoever took the offer away on its way has the headers unprotected.
                agreed(bits & SIGNS_HEADERS == 0 || call.offers_header_signing)?;
                said.bitmask = Some(bits);
            }
            CONTEXT => {
                let mut data = Cursor::new(data);
                let syntaxes = (SyntaxId::read(&mut data)?, SyntaxId::read(&mut data)?);
                end(&data)?;
                said.has_context = agreed(syntaxes == (call.interface, call.transfer))?;
            }
            HEADER => {
                let mut data = Cursor::new(data);
                let [kind, _, _, _] = data.array()?;
                // No sender whose packets are taken here has another one.
                let representation = data.array::<4>()?;
                let numbers = (data.u32()?, data.u16()?, data.u16()?);
                end(&data)?;
                said.has_header = agreed(
                    kind == PduKind::Request as u8
                        && representation == LITTLE_ENDIAN
                        && numbers == (call.call_id, call.context_id, call.opnum),
                )?;
            }
            _ => {
                agreed(command & MUST_PROCESS == 0)?;
            }
        }
        if command & LAST != 0 {
            break;
        }
    }
    end(&from)?;
    Ok(said)
}

impl ExpectedCall {
    /// The verification trailer of this call, to follow a stub of `used` bytes.
    #[must_use]
    pub fn verification(&self, used: usize, bitmask: u32) -> Vec<u8> {
        let mut out = Buffer::new();
        out.zeros(padding(used, 4));
        out.bytes(&SIGNATURE);
        out.u16(BITMASK);
        out.u16(4);
        out.u32(bitmask);
        out.u16(CONTEXT | MUST_PROCESS);
        out.u16(40);
        self.interface.write(&mut out);
        self.transfer.write(&mut out);
        out.u16(HEADER | MUST_PROCESS | LAST);
        out.u16(16);
        out.bytes(&[PduKind::Request as u8, 0, 0, 0]);
        out.bytes(&LITTLE_ENDIAN);
        out.u32(self.call_id);
        out.u16(self.context_id);
        out.u16(self.opnum);
        out.finish().to_vec()
    }
}

fn end(data: &Cursor<'_>) -> Result<(), PduError> {
    agreed(data.rest().is_empty()).map(|_| ())
}

fn agreed(is_so: bool) -> Result<bool, PduError> {
    match is_so {
        true => Ok(true),
        false => Err(PduError::Verification),
    }
}

/// In the bitmask: the client supports the signing of headers, and so has offered it when it bound.
pub const SIGNS_HEADERS: u32 = 1;

const SIGNATURE: [u8; 8] = [0x8A, 0xE3, 0x13, 0x71, 0x02, 0xF4, 0x36, 0x71];
const COMMAND: u16 = 0x3FFF;
const LAST: u16 = 0x4000;
const MUST_PROCESS: u16 = 0x8000;
const BITMASK: u16 = 1;
const CONTEXT: u16 = 2;
const HEADER: u16 = 3;
