//! The entry points: pointers become slices and references, results become response codes, panics stay here.
//!
//! All unsafe code of the crate. Each function relies on what `ifdhandler.h` has the caller promise: a pointer
//! is null or valid for the length that comes with it, for the time of the call, and nobody else writes there.

#![expect(unsafe_code, reason = "the interface is C")]

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::time::Duration;

use cardea_client::message::PowerAction;

use crate::attributes::{self, Polling};
use crate::codes::{
    Dword, Error, IFD_COMMUNICATION_ERROR, IFD_ICC_NOT_PRESENT, IFD_POWER_DOWN, IFD_POWER_UP,
    IFD_RESET, IFD_SUCCESS, ResponseCode, SCARD_PROTOCOL_T0, SCARD_PROTOCOL_T1,
};
use crate::control;
use crate::device::Device;
use crate::log;
use crate::output::Output;
use crate::registry;

/// Defines an entry point: checks each pointer argument with `with`, runs the body, which is safe and gives a
/// `Result<(), Error>`, and maps the result. A panic gives the code after `or`.
macro_rules! export {
    (
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) or $panicked:ident
        $(with $(let $value:ident = $conversion:ident($($from:ident),+);)+)?
        $body:block
    ) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> ResponseCode {
            guard($panicked, || {
                $($(
                    // SAFETY: the caller promises valid pointers, or null, for this call (see the module).
                    let $value = unsafe { $conversion($($from),+) }?;
                )+)?
                $body
            })
        }
    };
}

export! {
    /// Opens the slot `lun` of the reader at `name`, the `DEVICENAME`.
    fn IFDHCreateChannelByName(lun: Dword, name: *const c_char) or IFD_COMMUNICATION_ERROR
    with let name = text(name);
    { create(lun, name) }
}

export! {
    /// Opens a slot where the configuration has no `DEVICENAME`.
    fn IFDHCreateChannel(lun: Dword, _channel: Dword) or IFD_COMMUNICATION_ERROR
    { create(lun, b"") }
}

export! {
    /// Closes a slot.
    fn IFDHCloseChannel(lun: Dword) or IFD_COMMUNICATION_ERROR
    { registry::close(lun) }
}

export! {
    /// Gives what is known of the reader and the card.
    fn IFDHGetCapabilities(lun: Dword, tag: Dword, length: *mut Dword, value: *mut u8) or IFD_COMMUNICATION_ERROR
    with let output = output(value, length);
    { attributes::get(&*registry::slot(lun)?, tag, &polling(), &mut { output }) }
}

export! {
    /// Sets nothing.
    fn IFDHSetCapabilities(_lun: Dword, tag: Dword, _length: Dword, _value: *mut u8) or IFD_COMMUNICATION_ERROR
    { attributes::set(tag) }
}

export! {
    /// Takes note of the protocol. There is nothing to negotiate: no wire, no speed.
    fn IFDHSetProtocolParameters(
        lun: Dword, protocol: Dword, flags: u8, _pts1: u8, _pts2: u8, _pts3: u8
    ) or IFD_COMMUNICATION_ERROR
    {
        registry::slot(lun)?;
        match protocol {
            _ if flags != 0 => Err(Error::ProtocolParameters),
            SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1 => Ok(()),
            _ => Err(Error::Protocol),
        }
    }
}

export! {
    /// Power of the card: up, down, reset.
    fn IFDHPowerICC(lun: Dword, action: Dword, atr: *mut u8, length: *mut Dword) or IFD_COMMUNICATION_ERROR
    with let output = output(atr, length);
    {
        let slot = registry::slot(lun)?;
        match action {
            IFD_POWER_UP => slot.power_up(PowerAction::Up, &mut { output }),
            IFD_RESET => slot.power_up(PowerAction::Reset, &mut { output }),
            IFD_POWER_DOWN => slot.power_down(),
            _ => Err(Error::NotSupported),
        }
    }
}

export! {
    /// An APDU to the card. Protocol headers have no meaning here.
    fn IFDHTransmitToICC(
        lun: Dword, _send: IoHeader, command: *const u8, command_length: Dword,
        response: *mut u8, response_length: *mut Dword, _receive: *mut IoHeader
    ) or IFD_COMMUNICATION_ERROR
    with
        let output = output(response, response_length);
        let apdu = input(command, command_length);
    { registry::slot(lun)?.transmit(apdu, &mut { output }) }
}

export! {
    /// Whether a card is there. That there is none is not a failure but an answer, as is a missing daemon.
    fn IFDHICCPresence(lun: Dword) or IFD_ICC_NOT_PRESENT
    { if registry::slot(lun)?.is_present() { Ok(()) } else { Err(Error::Absent) } }
}

export! {
    /// Features of the reader.
    fn IFDHControl(
        lun: Dword, code: Dword, command: *const u8, command_length: Dword,
        response: *mut c_void, response_length: Dword, returned: *mut Dword
    ) or IFD_COMMUNICATION_ERROR
    with
        let output = control_output(response, response_length, returned);
        let command = input(command, command_length);
    { control::control(&*registry::slot(lun)?, code, command, &mut { output }) }
}

/// What pcscd's polling thread calls: waits for a change in the slot, at most `timeout` milliseconds.
extern "C" fn wait(lun: Dword, timeout: c_int) -> ResponseCode {
    guard(IFD_COMMUNICATION_ERROR, || {
        let timeout = Duration::from_millis(u64::try_from(timeout).unwrap_or_default());
        registry::slot(lun)?.wait(timeout)
    })
}

/// What pcscd calls to make the polling thread return.
extern "C" fn stop(lun: Dword) -> ResponseCode {
    guard(IFD_COMMUNICATION_ERROR, || {
        registry::slot(lun)?.stop();
        Ok(())
    })
}

/// `SCARD_IO_HEADER`, which is passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoHeader {
    protocol: Dword,
    length: Dword,
}

fn create(lun: Dword, name: &[u8]) -> Result<(), Error> {
    if has_rights_of_others() {
        cardea_client::environment::distrust();
    }
    log::start();
    let device = Device::parse(name, cardea_client::socket_path()).map_err(|error| {
        log::log!("lun={lun:#x} error={error}");
        Error::Failed
    })?;
    registry::open(lun, device)
}

/// Whether the program has rights that its caller does not have, whose the environment is (`AT_SECURE`).
fn has_rights_of_others() -> bool {
    /// Linux, `<linux/auxvec.h>`.
    const AT_SECURE: c_ulong = 23;

    // SAFETY: glibc 2.16 and later; takes any number and has no effect.
    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }

    getauxval(AT_SECURE) != 0
}

fn polling() -> Polling {
    Polling {
        wait: (wait as extern "C" fn(Dword, c_int) -> ResponseCode as usize).to_ne_bytes(),
        stop: (stop as extern "C" fn(Dword) -> ResponseCode as usize).to_ne_bytes(),
    }
}

/// Runs what must not unwind into C.
fn guard(panicked: ResponseCode, body: impl FnOnce() -> Result<(), Error>) -> ResponseCode {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => IFD_SUCCESS,
        Ok(Err(error)) => error.code(),
        Err(_) => panicked,
    }
}

/// A string that ends with 0.
///
/// # Safety
///
/// Null, or valid up to and with its end.
unsafe fn text<'a>(string: *const c_char) -> Result<&'a [u8], Error> {
    if string.is_null() {
        return Err(Error::Failed);
    }
    // SAFETY: not null, so valid to its end by the caller's promise.
    Ok(unsafe { CStr::from_ptr(string) }.to_bytes())
}

/// Bytes to read; null goes with length 0 only.
///
/// # Safety
///
/// Null, or valid for `length` bytes.
unsafe fn input<'a>(bytes: *const u8, length: Dword) -> Result<&'a [u8], Error> {
    let length = checked(length)?;
    if length == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() {
        return Err(Error::Failed);
    }
    // SAFETY: not null, so valid for `length` bytes by the caller's promise; not above `isize::MAX`.
    Ok(unsafe { slice::from_raw_parts(bytes, length) })
}

/// A buffer to write and its length, which is in and out.
///
/// # Safety
///
/// `length` null or valid; `buffer` null or valid for `*length` bytes; the two do not overlap.
unsafe fn output<'a>(buffer: *mut u8, length: *mut Dword) -> Result<Output<'a>, Error> {
    // SAFETY: null or valid by the caller's promise.
    let length = unsafe { length.as_mut() }.ok_or(Error::Failed)?;
    // A caller that has no buffer has no room, whatever the length says.
    let room = if buffer.is_null() {
        0
    } else {
        checked(*length)?
    };
    // SAFETY: null is not valid with any length, so it is replaced; else valid for `room` bytes by the
    // caller's promise; not above `isize::MAX`.
    let buffer = unsafe { slice::from_raw_parts_mut(replace_null(buffer), room) };
    Ok(Output::new(buffer, length))
}

/// A buffer to write with its length, and where the length of the answer goes.
///
/// # Safety
///
/// `returned` null or valid; `buffer` null or valid for `length` bytes; the two do not overlap.
unsafe fn control_output<'a>(
    buffer: *mut c_void,
    length: Dword,
    returned: *mut Dword,
) -> Result<Output<'a>, Error> {
    // SAFETY: null or valid by the caller's promise.
    let returned = unsafe { returned.as_mut() }.ok_or(Error::Failed)?;
    *returned = length;
    // SAFETY: `returned` is valid and holds the length of the buffer.
    unsafe { output(buffer.cast(), returned) }
}

/// A pointer that is valid for no bytes instead of null.
fn replace_null(buffer: *mut u8) -> *mut MaybeUninit<u8> {
    if buffer.is_null() {
        std::ptr::NonNull::dangling().as_ptr()
    } else {
        buffer.cast()
    }
}

/// A length that an object in memory can have.
fn checked(length: Dword) -> Result<usize, Error> {
    usize::try_from(length)
        .ok()
        .filter(|&length| isize::try_from(length).is_ok())
        .ok_or(Error::Failed)
}
