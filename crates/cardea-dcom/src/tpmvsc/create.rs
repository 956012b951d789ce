//! Creation of a card: three methods with the same beginning (MS-TPMVSC).

use std::fmt;

use cardea_terms::tpmvsc::Hresult;
use zeroize::Zeroizing;

use crate::dcom::{InterfacePointer, OrpcThat, OrpcThis};
use crate::ndr::{Decoder, Encoder, Message, NdrError, Secret, WideString};
use crate::tpmvsc::numbers::{ErrorReport, manager};

/// The longest friendly name, in UTF-16 units.
pub const MAX_NAME: usize = 128;

/// Length of a PIN policy.
pub const PIN_POLICY: usize = 32;

/// Three-key TDEA, ISO 9797 padding method 2, CBC.
const ADMIN_ALGORITHM: u8 = 0x82;

/// Which of the three methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMethod {
    /// CreateVirtualSmartCard.
    Plain,
    /// CreateVirtualSmartCardWithPinPolicy.
    PinPolicy,
    /// CreateVirtualSmartCardWithAttestation.
    Attestation,
}

impl CreateMethod {
    /// The method of a number.
    #[must_use]
    pub const fn from_opnum(opnum: u16) -> Option<Self> {
        match opnum {
            manager::CREATE => Some(Self::Plain),
            manager::CREATE_WITH_PIN_POLICY => Some(Self::PinPolicy),
            manager::CREATE_WITH_ATTESTATION => Some(Self::Attestation),
            _ => None,
        }
    }

    /// The number of the method.
    #[must_use]
    pub const fn opnum(self) -> u16 {
        match self {
            Self::Plain => manager::CREATE,
            Self::PinPolicy => manager::CREATE_WITH_PIN_POLICY,
            Self::Attestation => manager::CREATE_WITH_ATTESTATION,
        }
    }
}

/// Creates a card: the arguments as they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCard {
    /// The call.
    pub this: OrpcThis,
    /// The method.
    pub method: CreateMethod,
    /// The name that people see.
    pub name: WideString,
    /// The kind of admin key.
    pub admin_algorithm: u8,
    /// The admin key.
    pub admin_key: Secret,
    /// The first bytes of what the admin key makes of zeros.
    pub admin_kcv: Option<Vec<u8>>,
    /// The PUK.
    pub puk: Option<Secret>,
    /// The PIN.
    pub pin: Secret,
    /// Rules for PINs. Not sent by [`CreateMethod::Plain`].
    pub pin_policy: Option<Vec<u8>>,
    /// Whether the card can prove what it is. Sent by [`CreateMethod::Attestation`] only.
    pub attestation: u32,
    /// Whether files are written.
    pub generate: bool,
    /// Where reports are sent to.
    pub callback: Option<InterfacePointer>,
}

impl CreateCard {
    /// Reads the arguments of a method. Gives also how many bytes of the stub they take: see [`Message::decode`].
    ///
    /// # Errors
    /// They are not encoded correctly.
    pub fn decode(method: CreateMethod, stub: &[u8]) -> Result<(Self, usize), NdrError> {
        let mut from = Decoder::new(stub);
        let this = OrpcThis::read(&mut from)?;
        let name = from.string()?;
        let admin_algorithm = from.u8()?;
        let admin_key = Secret::new(counted(&mut from)?);
        let admin_kcv = optional(&mut from)?.map(<[u8]>::to_vec);
        let puk = optional(&mut from)?.map(Secret::new);
        let pin = Secret::new(counted(&mut from)?);
        let pin_policy = match method {
            CreateMethod::Plain => None,
            CreateMethod::PinPolicy | CreateMethod::Attestation => {
                optional(&mut from)?.map(<[u8]>::to_vec)
            }
        };
        let attestation = match method {
            CreateMethod::Plain | CreateMethod::PinPolicy => 0,
            CreateMethod::Attestation => from.u32()?,
        };
        let generate = from.u32()? != 0;
        let callback = InterfacePointer::read_optional(&mut from)?;
        let request = Self {
            this,
            method,
            name,
            admin_algorithm,
            admin_key,
            admin_kcv,
            puk,
            pin,
            pin_policy,
            attestation,
            generate,
            callback,
        };
        Ok((request, from.position()))
    }

    /// The stub of the request.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut to = Encoder::new();
        self.this.write(&mut to);
        to.string(&self.name);
        to.u8(self.admin_algorithm);
        put(&mut to, &self.admin_key);
        put_optional(&mut to, self.admin_kcv.as_deref());
        put_optional(&mut to, self.puk.as_deref());
        put(&mut to, &self.pin);
        if self.method != CreateMethod::Plain {
            put_optional(&mut to, self.pin_policy.as_deref());
        }
        if self.method == CreateMethod::Attestation {
            to.u32(self.attestation);
        }
        to.u32(u32::from(self.generate));
        InterfacePointer::write_optional(self.callback.as_ref(), &mut to);
        to.finish()
    }

    /// The arguments, if they are what the protocol allows. Whether the KCV is that of the key, and what the PIN policy
    /// says, is not looked at.
    ///
    /// # Errors
    /// Which kind of argument is invalid.
    pub fn parameters(&self) -> Result<CardParameters<'_>, Rejected> {
        let name = self.name.to_text().ok_or(Rejected::Argument)?;
        if name.is_empty()
            || self.name.units().len() > MAX_NAME
            || name.chars().any(char::is_control)
            || self.admin_algorithm != ADMIN_ALGORITHM
        {
            return Err(Rejected::Argument);
        }
        let admin_key = self.admin_key.first_chunk().ok_or(Rejected::Argument)?;
        if self.admin_key.len() != admin_key.len() {
            return Err(Rejected::Argument);
        }
        let parameters = CardParameters {
            name,
            admin_key,
            admin_kcv: exactly(self.admin_kcv.as_deref())?,
            puk: self.puk.as_deref(),
            pin: &self.pin,
            pin_policy: exactly(self.pin_policy.as_deref())?,
            attestation: Attestation::from_wire(self.attestation).ok_or(Rejected::Argument)?,
            generate: self.generate,
        };
        // Without a policy, that of Microsoft's tool holds.
        let least = match parameters.pin_policy {
            Some(_) => 4,
            None => 8,
        };
        let is_puk = |puk: &[u8]| (8..=LONGEST).contains(&puk.len());
        match (least..=LONGEST).contains(&self.pin.len()) && parameters.puk.is_none_or(is_puk) {
            true => Ok(parameters),
            false => Err(Rejected::PinComplexity),
        }
    }
}

/// The longest PIN or PUK.
const LONGEST: usize = 127;

/// Creates a card: arguments that the protocol allows.
#[derive(Clone)]
pub struct CardParameters<'a> {
    /// The name that people see: not empty, without control characters.
    pub name: String,
    /// The admin key.
    pub admin_key: &'a [u8; 24],
    /// The first bytes of what the admin key makes of zeros, to be compared.
    pub admin_kcv: Option<[u8; 3]>,
    /// The PUK; `None`: the administrator unblocks the PIN.
    pub puk: Option<&'a [u8]>,
    /// The PIN.
    pub pin: &'a [u8],
    /// Rules for PINs, to be checked.
    pub pin_policy: Option<[u8; PIN_POLICY]>,
    /// Whether the card can prove what it is.
    pub attestation: Attestation,
    /// Whether files are written.
    pub generate: bool,
}

impl fmt::Debug for CardParameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardParameters")
            .field("name", &self.name)
            .field("attestation", &self.attestation)
            .field("generate", &self.generate)
            .finish_non_exhaustive()
    }
}

/// TPMVSC_ATTESTATION_TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// None.
    None = 0,
    /// The card has an attestation key of its own.
    AikOnly = 1,
    /// An authority certifies it.
    AikAndCertificate = 2,
}

impl Attestation {
    /// The kind of a number on the wire.
    #[must_use]
    pub const fn from_wire(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::AikOnly),
            2 => Some(Self::AikAndCertificate),
            _ => None,
        }
    }
}

/// Arguments that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// An argument is not acceptable.
    Argument,
    /// The PIN or PUK is too short or too long.
    PinComplexity,
}

impl Rejected {
    /// The result of the call.
    #[must_use]
    pub const fn hresult(self) -> Hresult {
        match self {
            Self::Argument => Hresult::INVALID_ARGUMENT,
            Self::PinComplexity => Hresult::PIN_POLICY,
        }
    }

    /// What is reported before.
    #[must_use]
    pub const fn report(self) -> Option<ErrorReport> {
        match self {
            Self::Argument => None,
            Self::PinComplexity => Some(ErrorReport::PinComplexity),
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCardReply {
    /// The answer.
    pub that: OrpcThat,
    /// The instance id; `None` on failure.
    pub instance_id: Option<WideString>,
    /// Whether the machine must be started again. Not sent by [`CreateMethod::Attestation`].
    pub need_reboot: bool,
    /// The result.
    pub result: u32,
}

impl CreateCardReply {
    /// A failure.
    #[must_use]
    pub const fn failure(result: u32) -> Self {
        Self {
            that: OrpcThat { flags: 0 },
            instance_id: None,
            need_reboot: false,
            result,
        }
    }

    /// Reads the results of a method.
    ///
    /// # Errors
    /// They are not encoded correctly.
    pub fn decode(method: CreateMethod, stub: &[u8]) -> Result<Self, NdrError> {
        let mut from = Decoder::new(stub);
        let reply = Self {
            that: OrpcThat::read(&mut from)?,
            instance_id: from.optional_string()?,
            need_reboot: method != CreateMethod::Attestation && from.u32()? != 0,
            result: from.u32()?,
        };
        match from.remaining() {
            0 => Ok(reply),
            _ => Err(NdrError::BadStubData),
        }
    }

    /// The stub of the response.
    #[must_use]
    pub fn encode(&self, method: CreateMethod) -> Zeroizing<Vec<u8>> {
        let mut to = Encoder::new();
        self.that.write(&mut to);
        to.optional_string(self.instance_id.as_ref());
        if method != CreateMethod::Attestation {
            to.u32(u32::from(self.need_reboot));
        }
        to.u32(self.result);
        to.finish()
    }
}

/// Bytes of exactly this number, or none.
fn exactly<const N: usize>(bytes: Option<&[u8]>) -> Result<Option<[u8; N]>, Rejected> {
    let array = |bytes: &[u8]| bytes.try_into().map_err(|_| Rejected::Argument);
    bytes.map(array).transpose()
}

/// A conformant array of bytes, and its length once more.
fn counted<'a>(from: &mut Decoder<'a>) -> Result<&'a [u8], NdrError> {
    let bytes = from.byte_array()?;
    same_length(from, bytes)
}

/// A unique pointer to a conformant array of bytes, and the length once more.
fn optional<'a>(from: &mut Decoder<'a>) -> Result<Option<&'a [u8]>, NdrError> {
    if from.pointer()? {
        return counted(from).map(Some);
    }
    match from.u32()? {
        0 => Ok(None),
        _ => Err(NdrError::NullReference),
    }
}

fn same_length<'a>(from: &mut Decoder<'_>, bytes: &'a [u8]) -> Result<&'a [u8], NdrError> {
    match usize::try_from(from.u32()?) == Ok(bytes.len()) {
        true => Ok(bytes),
        false => Err(NdrError::BadStubData),
    }
}

fn put(to: &mut Encoder, bytes: &[u8]) {
    to.byte_array(bytes);
    to.count(bytes.len());
}

fn put_optional(to: &mut Encoder, bytes: Option<&[u8]>) {
    to.pointer(bytes.is_some());
    match bytes {
        Some(bytes) => put(to, bytes),
        None => to.u32(0),
    }
}
