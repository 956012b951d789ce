//! The smart card calls of MS-RDPESC §3.2.5, as Windows' resource manager makes them for a session.

use std::fmt;

use super::ndr::{Reader, Writer, texts};
use super::{Device, Session};
use crate::rdp::devices::Answer;

/// Control codes (MS-RDPESC §3.1.4).
mod code {
    pub(super) const ACCESS_STARTED_EVENT: u32 = 0x0009_00E0;
    pub(super) const BEGIN_TRANSACTION: u32 = 0x0009_00BC;
    pub(super) const CANCEL: u32 = 0x0009_00A8;
    pub(super) const CONNECT: u32 = 0x0009_00B0;
    pub(super) const CONTROL: u32 = 0x0009_00D4;
    pub(super) const DISCONNECT: u32 = 0x0009_00B8;
    pub(super) const END_TRANSACTION: u32 = 0x0009_00C0;
    pub(super) const ESTABLISH_CONTEXT: u32 = 0x0009_0014;
    pub(super) const GET_ATTRIBUTE: u32 = 0x0009_00D8;
    pub(super) const GET_STATUS_CHANGE: u32 = 0x0009_00A4;
    pub(super) const IS_VALID_CONTEXT: u32 = 0x0009_001C;
    pub(super) const LIST_READERS: u32 = 0x0009_002C;
    pub(super) const RECONNECT: u32 = 0x0009_00B4;
    pub(super) const RELEASE_CONTEXT: u32 = 0x0009_0018;
    pub(super) const STATUS: u32 = 0x0009_00CC;
    pub(super) const TRANSMIT: u32 = 0x0009_00D0;
}

const T0: u32 = 1;
const T1: u32 = 2;
/// What becomes of the card.
const LEAVE: u32 = 0;
const RESET: u32 = 1;
/// Scope of a context: the system.
const SYSTEM: u32 = 2;
/// Room for a response; more than this xfreerdp refuses.
const RESPONSE: u32 = 66_560;
const ATR_FIELD: usize = 36;

/// An answer that is not success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// `SCARD_E_CANCELLED`
    pub const CANCELLED: Self = Self(0x8010_0002);
    /// `SCARD_E_INSUFFICIENT_BUFFER`
    pub const INSUFFICIENT_BUFFER: Self = Self(0x8010_0008);
    /// `SCARD_E_NO_SERVICE`
    pub const NO_SERVICE: Self = Self(0x8010_001D);
    /// `SCARD_E_NO_SMARTCARD`
    pub const NO_SMART_CARD: Self = Self(0x8010_000C);
    /// `SCARD_W_REMOVED_CARD`
    pub const REMOVED_CARD: Self = Self(0x8010_0069);
    /// `SCARD_W_RESET_CARD`
    pub const RESET_CARD: Self = Self(0x8010_0068);
    /// `SCARD_E_SHARING_VIOLATION`
    pub const SHARING_VIOLATION: Self = Self(0x8010_000B);
    /// `SCARD_E_TIMEOUT`
    pub const TIMEOUT: Self = Self(0x8010_000A);
    /// `SCARD_E_UNKNOWN_READER`
    pub const UNKNOWN_READER: Self = Self(0x8010_0009);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.0)
    }
}

/// A context of the client's resource manager.
#[derive(Clone, Debug)]
pub struct Context(Vec<u8>);

/// A connected card.
#[derive(Clone, Debug)]
pub struct Card {
    context: Vec<u8>,
    handle: Vec<u8>,
    protocol: u32,
}

/// With whom a card is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// With nobody.
    Exclusive = 1,
    /// With everybody.
    Shared = 2,
}

/// What a reader can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `SCARD_ATTR_ATR_STRING`
    AtrString = 0x0009_0303,
    /// `SCARD_ATTR_VENDOR_NAME`
    VendorName = 0x0001_0100,
}

/// A reader as a status change tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderState {
    /// `SCARD_STATE_*`, without the counter of events above them.
    pub state: u32,
    /// The whole, to be given for the next change.
    pub event: u32,
    /// The card's ATR.
    pub atr: Vec<u8>,
}

impl ReaderState {
    /// `SCARD_STATE_CHANGED`
    pub const CHANGED: u32 = 0x02;
    /// `SCARD_STATE_EMPTY`
    pub const EMPTY: u32 = 0x10;
    /// `SCARD_STATE_PRESENT`
    pub const PRESENT: u32 = 0x20;
}

/// A call whose answer is not there yet.
#[derive(Debug)]
#[must_use]
pub struct Pending(u32);

impl Session {
    /// Waits until the client's resource manager runs, as Windows does first.
    ///
    /// # Panics
    ///
    /// When the client says that it does not.
    pub fn started(&mut self) {
        let pending = self.ask(code::ACCESS_STARTED_EVENT, &[0; 4]);
        let answer = self.answered(&pending);
        assert_eq!(answer.status, 0, "the resource manager");
    }

    /// `SCardEstablishContext`.
    ///
    /// # Errors
    ///
    /// The code that the client answers; so for all calls.
    pub fn establish(&mut self) -> Result<Context, Code> {
        let input = Writer::new().word(SYSTEM).finish();
        self.call(code::ESTABLISH_CONTEXT, &input, |answer| {
            answer.plain(4)?;
            answer.pointer()?;
            answer.array().map(|bytes| Context(bytes.to_vec()))
        })
    }

    /// `SCardReleaseContext`.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn release(&mut self, context: Context) -> Result<(), Code> {
        self.call(code::RELEASE_CONTEXT, &context.alone(), |_| Some(()))
    }

    /// `SCardIsValidContext`.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn is_valid(&mut self, context: &Context) -> Result<(), Code> {
        self.call(code::IS_VALID_CONTEXT, &context.alone(), |_| Some(()))
    }

    /// `SCardCancel`: ends a blocking status change of the context.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn cancel(&mut self, context: &Context) -> Result<(), Code> {
        self.call(code::CANCEL, &context.alone(), |_| Some(()))
    }

    /// `SCardListReaders`.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn list_readers(&mut self, context: &Context) -> Result<Vec<String>, Code> {
        let input = context.head(Writer::new());
        let input = input.word(0).word(0).word(0).word(u32::MAX);
        let input = input.array(&context.0).finish();
        self.call(code::LIST_READERS, &input, |answer| {
            answer.plain(4)?;
            match answer.pointer()? {
                true => answer.array().map(texts),
                false => Some(Vec::new()),
            }
        })
    }

    /// `SCardGetStatusChange`, which waits at most that many milliseconds for another state than the given one.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn status_change(
        &mut self,
        context: &Context,
        reader: &str,
        state: u32,
        timeout: u32,
    ) -> Result<ReaderState, Code> {
        let pending = self.begin_status_change(context, reader, state, timeout);
        self.end_status_change(&pending)
    }

    /// The same without waiting.
    pub fn begin_status_change(
        &mut self,
        context: &Context,
        reader: &str,
        state: u32,
        timeout: u32,
    ) -> Pending {
        let input = context.head(Writer::new());
        let input = input.word(timeout).word(1).pointer().array(&context.0);
        let input = input.aligned().word(1).pointer();
        let input = input.word(state).word(0).word(0).plain(&[0; ATR_FIELD]);
        self.ask(code::GET_STATUS_CHANGE, &input.text(reader).finish())
    }

    /// Whether its answer has come, as far as the calls since then have read.
    #[must_use]
    pub fn has_answered(&self, pending: &Pending) -> bool {
        self.answers.contains_key(&pending.0)
    }

    /// What came of [`Session::begin_status_change`].
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn end_status_change(&mut self, pending: &Pending) -> Result<ReaderState, Code> {
        self.finish(pending, |answer| {
            answer.plain(4)?;
            answer.pointer()?;
            answer.plain(4)?;
            let _current = answer.word()?;
            let event = answer.word()?;
            let length = usize::try_from(answer.word()?).ok()?;
            let atr = answer.plain(ATR_FIELD)?.get(..length)?.to_vec();
            let state = event & 0xFFFF;
            Some(ReaderState { state, event, atr })
        })
    }

    /// `SCardConnect`, with either protocol.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn connect(&mut self, context: &Context, reader: &str, share: Share) -> Result<Card, Code> {
        let input = context.head(Writer::new().pointer());
        let input = input.word(share as u32).word(T0 | T1);
        let input = input.text(reader).array(&context.0).finish();
        let context = context.0.clone();
        self.call(code::CONNECT, &input, |answer| {
            answer.plain(4)?;
            let has_context = answer.pointer()?;
            answer.plain(4)?;
            answer.pointer()?;
            let protocol = answer.word()?;
            if has_context {
                answer.array()?;
            }
            let handle = answer.array()?.to_vec();
            Some(Card {
                context,
                handle,
                protocol,
            })
        })
    }

    /// `SCardReconnect`, which leaves the card as it is: after another program has reset it.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn reconnect(&mut self, card: &Card) -> Result<(), Code> {
        self.reconnect_with(card, LEAVE)
    }

    /// `SCardReconnect`, which resets the card.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn reset(&mut self, card: &Card) -> Result<(), Code> {
        self.reconnect_with(card, RESET)
    }

    /// `SCardDisconnect`, which leaves the card as it is.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn disconnect(&mut self, card: Card) -> Result<(), Code> {
        self.with_disposition(code::DISCONNECT, &card)
    }

    /// `SCardBeginTransaction`.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn begin(&mut self, card: &Card) -> Result<(), Code> {
        self.with_disposition(code::BEGIN_TRANSACTION, card)
    }

    /// `SCardEndTransaction`, which leaves the card as it is.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn end_transaction(&mut self, card: &Card) -> Result<(), Code> {
        self.with_disposition(code::END_TRANSACTION, card)
    }

    /// `SCardStatus`: names of the reader, and the card's ATR.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn status(&mut self, card: &Card) -> Result<(Vec<String>, Vec<u8>), Code> {
        let input = card.head(Writer::new());
        let input = input.word(0).word(u32::MAX).word(36);
        self.call(code::STATUS, &card.tail(input), |answer| {
            answer.plain(4)?;
            let named = answer.pointer()?;
            answer.plain(8)?;
            let atr = answer.plain(32)?;
            let length = usize::try_from(answer.word()?).ok()?;
            let atr = atr.get(..length)?.to_vec();
            let names = match named {
                true => texts(answer.array()?),
                false => Vec::new(),
            };
            Some((names, atr))
        })
    }

    /// `SCardTransmit`.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn transmit(&mut self, card: &Card, command: &[u8]) -> Result<Vec<u8>, Code> {
        self.transmit_into(card, command, RESPONSE)
    }

    /// The same with so much room for the response.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn transmit_into(
        &mut self,
        card: &Card,
        command: &[u8],
        room: u32,
    ) -> Result<Vec<u8>, Code> {
        let input = card.head(Writer::new());
        let input = input.word(card.protocol).word(0).word(0);
        let length = u32::try_from(command.len()).unwrap_or(u32::MAX);
        let input = input.word(length).pointer().word(0).word(0).word(room);
        let input = input.array(&card.context).array(&card.handle);
        self.call(code::TRANSMIT, &input.array(command).finish(), |answer| {
            answer.plain(8)?;
            match answer.pointer()? {
                true => answer.array().map(<[u8]>::to_vec),
                false => Some(Vec::new()),
            }
        })
    }

    /// `SCardControl` without input.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn control(&mut self, card: &Card, control: u32) -> Result<Vec<u8>, Code> {
        let input = card.head(Writer::new());
        let input = input.word(control).word(0).word(0).word(0).word(0x100);
        self.call(code::CONTROL, &card.tail(input), bytes)
    }

    /// `SCardGetAttrib`.
    ///
    /// # Errors
    ///
    /// See [`Session::establish`].
    pub fn attribute(&mut self, card: &Card, attribute: Attribute) -> Result<Vec<u8>, Code> {
        let input = card.head(Writer::new());
        let input = input.word(attribute as u32).word(0).word(0xFF);
        self.call(code::GET_ATTRIBUTE, &card.tail(input), bytes)
    }

    fn reconnect_with(&mut self, card: &Card, disposition: u32) -> Result<(), Code> {
        let input = card.head(Writer::new());
        let input = input.word(Share::Shared as u32).word(T0 | T1);
        let input = card.tail(input.word(disposition));
        self.call(code::RECONNECT, &input, |_| Some(()))
    }

    fn with_disposition(&mut self, code: u32, card: &Card) -> Result<(), Code> {
        let input = card.head(Writer::new()).word(LEAVE);
        self.call(code, &card.tail(input), |_| Some(()))
    }

    fn call<T>(
        &mut self,
        code: u32,
        input: &[u8],
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Result<T, Code> {
        let pending = self.ask(code, input);
        self.finish(&pending, read)
    }

    fn ask(&mut self, code: u32, input: &[u8]) -> Pending {
        let mut devices = self.devices().iter();
        let device = devices.find(|device| device.kind == Device::SMART_CARDS);
        let device = device.expect("the client redirects smart cards").id;
        Pending(
            self.request(device, code, input)
                .expect("the client listens"),
        )
    }

    fn answered(&mut self, pending: &Pending) -> Answer {
        self.answer(pending.0).expect("the client answers")
    }

    fn finish<T>(
        &mut self,
        pending: &Pending,
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Result<T, Code> {
        let answer = self.answered(pending);
        assert_eq!(answer.status, 0, "the client's own fault: {answer:02x?}");
        let mut reader = Reader::new(&answer.output).expect("headers of the answer");
        match reader.word() {
            Some(0) => Ok(read(&mut reader).unwrap_or_else(|| panic!("cut off: {answer:02x?}"))),
            Some(code) => Err(Code(code)),
            None => panic!("no code: {answer:02x?}"),
        }
    }
}

impl Context {
    /// The fixed part; its bytes follow behind that of the whole.
    fn head(&self, writer: Writer) -> Writer {
        head(writer, &self.0)
    }

    fn alone(&self) -> Vec<u8> {
        self.head(Writer::new()).array(&self.0).finish()
    }
}

impl Card {
    fn head(&self, writer: Writer) -> Writer {
        head(head(writer, &self.context), &self.handle)
    }

    /// What follows when the call has no pointers of its own.
    fn tail(&self, writer: Writer) -> Vec<u8> {
        writer.array(&self.context).array(&self.handle).finish()
    }
}

fn head(writer: Writer, bytes: &[u8]) -> Writer {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    writer.word(length).pointer()
}

/// An answer that is nothing but bytes.
fn bytes(answer: &mut Reader<'_>) -> Option<Vec<u8>> {
    answer.plain(4)?;
    match answer.pointer()? {
        true => answer.array().map(<[u8]>::to_vec),
        false => Some(Vec::new()),
    }
}
