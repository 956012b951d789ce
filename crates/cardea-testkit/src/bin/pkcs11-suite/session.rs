//! A session of the token, and the calls that take one.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::context::{
    Context, EC, Outcome, RSA, RW, bytes, curve, ensure, flag, key_templates, long, rsa_public,
};
use crate::module::{Attribute, Mechanism, Result, Rv, call, raw, result};

/// A session of the token.
#[derive(Clone, Copy)]
pub(crate) struct Session<'a> {
    pub(crate) context: &'a Context,
    pub(crate) handle: CK_SESSION_HANDLE,
}

impl Context {
    /// Generates the keys that the behaviours use.
    pub(crate) fn make_keys(&self) {
        let session = self.user().unwrap();
        let uses = [CKA_SIGN, CKA_DECRYPT, CKA_UNWRAP];
        if session.private(RSA).is_err() {
            let public = [CKA_ENCRYPT, CKA_WRAP].map(|use_| flag(use_, true));
            let public = [rsa_public(2048), public.to_vec()].concat();
            make_key(session, RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, public, &uses);
        }
        if session.private(EC).is_err() {
            let uses = [CKA_SIGN, CKA_DERIVE];
            make_key(session, EC, CKM_EC_KEY_PAIR_GEN, curve(), &uses);
        }
    }

    pub(crate) fn open(&self, flags: CK_FLAGS) -> Result<Session<'_>> {
        let handle = self.open_session(self.slot, flags)?;
        Ok(Session {
            context: self,
            handle,
        })
    }

    /// A read-write session with the user logged in.
    pub(crate) fn user(&self) -> Result<Session<'_>> {
        let session = self.open(RW)?;
        match session.login_user() {
            Ok(()) | Err(Rv(CKR_USER_ALREADY_LOGGED_IN)) => Ok(session),
            Err(error) => Err(error),
        }
    }

    /// A read-write session without a login, unless another session has one.
    pub(crate) fn public(&self) -> Result<Session<'_>> {
        self.open(RW)
    }
}

fn make_key(
    session: Session<'_>,
    label: &str,
    kind: CK_MECHANISM_TYPE,
    public: Vec<Attribute>,
    uses: &[CK_ATTRIBUTE_TYPE],
) {
    let (mut public, mut private) = key_templates(label, public);
    private.extend(uses.iter().map(|use_| flag(*use_, true)));
    private.extend([flag(CKA_SENSITIVE, true), flag(CKA_EXTRACTABLE, false)]);
    public.push(flag(CKA_VERIFY, true));
    let made = session.generate(kind, &public, &private);
    made.expect("C_GenerateKeyPair");
}

/// What a call with a buffer returned: its result, the length that it stored, and the bytes.
pub(crate) type Stored = (Result, usize, Vec<u8>);

pub(crate) type Object = CK_OBJECT_HANDLE;

/// A template in C, which points to the values.
fn c_template(attributes: &[Attribute]) -> Vec<CK_ATTRIBUTE> {
    let attributes = attributes.iter();
    let c = attributes.map(|(kind, value)| CK_ATTRIBUTE {
        type_: *kind,
        pValue: value.as_ptr().cast_mut().cast(),
        ulValueLen: value.len() as CK_ULONG,
    });
    c.collect()
}

/// Calls a function that stores bytes, with a buffer of this size or with none.
fn sized(size: Option<usize>, call: impl FnOnce(*mut CK_BYTE, *mut CK_ULONG) -> CK_RV) -> Stored {
    let mut buffer = vec![0; size.unwrap_or(0)];
    let mut length = buffer.len() as CK_ULONG;
    let place = match size {
        Some(_) => buffer.as_mut_ptr(),
        None => null_mut(),
    };
    let value = call(place, &raw mut length);
    buffer.truncate(length as usize);
    (result(value), length as usize, buffer)
}

/// Calls a function that stores bytes, with a large buffer.
fn whole(call: impl FnOnce(*mut CK_BYTE, *mut CK_ULONG) -> CK_RV) -> Result<Vec<u8>> {
    let (value, _, bytes) = sized(Some(1024), call);
    value.map(|()| bytes)
}

macro_rules! begins {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self, mechanism: &Mechanism, key: Object) -> Result {
            call!(self.context, $name(self.handle, &mut mechanism.c(), key))
        }
    )+};
}

/// Functions that take data and return bytes: asked for the length first, then with a buffer of that length.
macro_rules! one_part {
    ($($safe:ident $with:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self, data: &[u8]) -> Result<Vec<u8>> {
            let (value, length, _) = self.$with(data, None);
            value?;
            let (value, _, bytes) = self.$with(data, Some(length));
            value.map(|()| bytes)
        }

        pub(crate) fn $with(&self, data: &[u8], size: Option<usize>) -> Stored {
            let (start, length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
            sized(size, |place, stored| {
                raw!(self.context, $name(self.handle, start, length, place, stored))
            })
        }
    )+};
}

/// Functions that take bytes.
macro_rules! takes {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self, data: &[u8]) -> Result {
            let (start, length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
            call!(self.context, $name(self.handle, start, length))
        }
    )+};
}

macro_rules! finals {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self) -> Result<Vec<u8>> {
            whole(|place, stored| raw!(self.context, $name(self.handle, place, stored)))
        }
    )+};
}

macro_rules! bare {
    ($($safe:ident $name:ident;)+) => {$(
        pub(crate) fn $safe(&self) -> Result {
            call!(self.context, $name(self.handle))
        }
    )+};
}

/// Calls a function that makes an object from a template, with the arguments between session and template.
macro_rules! make {
    ($self:ident, $name:ident($($argument:expr),*), $template:expr) => {{
        let (mut list, mut made) = (c_template($template), 0);
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        call!($self.context, $name($self.handle, $($argument,)* start, count, &raw mut made))?;
        Ok(made)
    }};
}

impl Session<'_> {
    bare! {
        close C_CloseSession;
        logout C_Logout;
        find_end C_FindObjectsFinal;
    }
    begins! {
        sign_begin C_SignInit;
        verify_begin C_VerifyInit;
        encrypt_begin C_EncryptInit;
        decrypt_begin C_DecryptInit;
    }
    one_part! {
        sign sign_sized C_Sign;
        encrypt encrypt_sized C_Encrypt;
        decrypt decrypt_sized C_Decrypt;
        digest digest_sized C_Digest;
    }
    takes! {
        init_pin C_InitPIN;
        sign_update C_SignUpdate;
        verify_update C_VerifyUpdate;
        verify_end C_VerifyFinal;
        digest_update C_DigestUpdate;
    }
    finals! {
        sign_end C_SignFinal;
        digest_end C_DigestFinal;
    }

    pub(crate) fn info(&self) -> Result<CK_SESSION_INFO> {
        self.context.session_info(self.handle)
    }

    pub(crate) fn login(&self, user: CK_USER_TYPE, pin: &str) -> Result {
        let (start, length) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
        call!(self.context, C_Login(self.handle, user, start, length))
    }

    pub(crate) fn login_user(&self) -> Result {
        self.login(CKU_USER, &self.context.token.pin)
    }

    pub(crate) fn login_officer(&self) -> Result {
        self.login(CKU_SO, &self.context.token.so_pin)
    }

    pub(crate) fn set_pin(&self, old: &str, new: &str) -> Result {
        let (start, length) = (old.as_ptr().cast_mut(), old.len() as CK_ULONG);
        let (new, size) = (new.as_ptr().cast_mut(), new.len() as CK_ULONG);
        call!(
            self.context,
            C_SetPIN(self.handle, start, length, new, size)
        )
    }

    pub(crate) fn create(&self, attributes: &[Attribute]) -> Result<Object> {
        make!(self, C_CreateObject(), attributes)
    }

    pub(crate) fn destroy(&self, object: Object) -> Result {
        call!(self.context, C_DestroyObject(self.handle, object))
    }

    pub(crate) fn copy(&self, object: Object, attributes: &[Attribute]) -> Result<Object> {
        make!(self, C_CopyObject(object), attributes)
    }

    pub(crate) fn size(&self, object: Object) -> Result<usize> {
        let mut size = 0;
        let place = &raw mut size;
        call!(self.context, C_GetObjectSize(self.handle, object, place))?;
        Ok(size as usize)
    }

    /// One attribute, asked for its length first.
    pub(crate) fn get(&self, object: Object, kind: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>> {
        let mut attribute = CK_ATTRIBUTE {
            type_: kind,
            pValue: null_mut(),
            ulValueLen: 0,
        };
        let place = &raw mut attribute;
        call!(
            self.context,
            C_GetAttributeValue(self.handle, object, place, 1)
        )?;
        let mut value = vec![0; attribute.ulValueLen as usize];
        attribute.pValue = value.as_mut_ptr().cast();
        call!(
            self.context,
            C_GetAttributeValue(self.handle, object, place, 1)
        )?;
        value.truncate(attribute.ulValueLen as usize);
        Ok(value)
    }

    /// Several attributes with buffers of these sizes: the result of the call, and length and bytes of each.
    pub(crate) fn get_sized(
        &self,
        object: Object,
        wanted: &[(CK_ATTRIBUTE_TYPE, usize)],
    ) -> (Result, Vec<(CK_ULONG, Vec<u8>)>) {
        let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|(_, size)| vec![0; *size]).collect();
        let places = wanted.iter().zip(&mut buffers);
        let list = places.map(|((kind, size), buffer)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: buffer.as_mut_ptr().cast(),
            ulValueLen: *size as CK_ULONG,
        });
        let mut list: Vec<_> = list.collect();
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        let value = call!(
            self.context,
            C_GetAttributeValue(self.handle, object, start, count)
        );
        let lengths = list.iter().map(|attribute| attribute.ulValueLen);
        (value, lengths.zip(buffers).collect())
    }

    /// Compares attributes with these.
    pub(crate) fn expect(&self, object: Object, wanted: &[Attribute]) -> Outcome {
        for (kind, wanted) in wanted {
            let value = self.get(object, *kind)?;
            ensure!(value == *wanted, "{kind:X} is {value:X?}, not {wanted:X?}");
        }
        Ok(())
    }

    pub(crate) fn set(&self, object: Object, attributes: &[Attribute]) -> Result {
        let mut list = c_template(attributes);
        let (start, count) = (list.as_mut_ptr(), list.len() as CK_ULONG);
        call!(
            self.context,
            C_SetAttributeValue(self.handle, object, start, count)
        )
    }

    pub(crate) fn find_begin(&self, attributes: &[Attribute]) -> Result {
        let mut list = c_template(attributes);
        let start = match attributes {
            [] => null_mut(),
            _ => list.as_mut_ptr(),
        };
        call!(
            self.context,
            C_FindObjectsInit(self.handle, start, list.len() as CK_ULONG)
        )
    }

    pub(crate) fn find_next(&self, most: usize) -> Result<Vec<Object>> {
        let (mut found, mut count) = (vec![0; most.max(1)], 0);
        let start = found.as_mut_ptr();
        call!(
            self.context,
            C_FindObjects(self.handle, start, most as CK_ULONG, &raw mut count)
        )?;
        found.truncate(count as usize);
        Ok(found)
    }

    pub(crate) fn find(&self, attributes: &[Attribute]) -> Result<Vec<Object>> {
        self.find_begin(attributes)?;
        let found = self.find_next(100);
        self.find_end()?;
        found
    }

    /// The only object of this class and label.
    pub(crate) fn only(&self, class: CK_OBJECT_CLASS, label: &str) -> Outcome<Object> {
        let found = self.find(&[long(CKA_CLASS, class), bytes(CKA_LABEL, label)])?;
        match found.as_slice() {
            [object] => Ok(*object),
            several => Err(format!("{} objects {label}", several.len()).into()),
        }
    }

    pub(crate) fn private(&self, label: &str) -> Outcome<Object> {
        self.only(CKO_PRIVATE_KEY, label)
    }

    pub(crate) fn public(&self, label: &str) -> Outcome<Object> {
        self.only(CKO_PUBLIC_KEY, label)
    }

    pub(crate) fn digest_begin(&self, kind: CK_MECHANISM_TYPE) -> Result {
        call!(
            self.context,
            C_DigestInit(self.handle, &mut Mechanism::new(kind).c())
        )
    }

    pub(crate) fn verify(&self, data: &[u8], signature: &[u8]) -> Result {
        let (start, length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let (signature, size) = (signature.as_ptr().cast_mut(), signature.len() as CK_ULONG);
        call!(
            self.context,
            C_Verify(self.handle, start, length, signature, size)
        )
    }

    /// A signature with the key of this label.
    pub(crate) fn signed(
        &self,
        label: &str,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Outcome<Vec<u8>> {
        self.sign_begin(mechanism, self.private(label)?)?;
        Ok(self.sign(data)?)
    }

    /// A cryptogram for the key of this label.
    pub(crate) fn encrypted(
        &self,
        label: &str,
        mechanism: &Mechanism,
        plain: &[u8],
    ) -> Outcome<Vec<u8>> {
        self.encrypt_begin(mechanism, self.public(label)?)?;
        Ok(self.encrypt(plain)?)
    }

    /// The public key and the private key.
    pub(crate) fn generate(
        &self,
        kind: CK_MECHANISM_TYPE,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Object, Object)> {
        let mut mechanism = Mechanism::new(kind).c();
        let (mut public, mut private) = (c_template(public), c_template(private));
        let (public, public_count) = (public.as_mut_ptr(), public.len() as CK_ULONG);
        let (private, private_count) = (private.as_mut_ptr(), private.len() as CK_ULONG);
        let (mut first, mut second) = (0, 0);
        call!(
            self.context,
            C_GenerateKeyPair(
                self.handle,
                &raw mut mechanism,
                public,
                public_count,
                private,
                private_count,
                &raw mut first,
                &raw mut second
            )
        )?;
        Ok((first, second))
    }

    pub(crate) fn derive(
        &self,
        mechanism: &Mechanism,
        key: Object,
        attributes: &[Attribute],
    ) -> Result<Object> {
        make!(self, C_DeriveKey(&mut mechanism.c(), key), attributes)
    }

    pub(crate) fn wrap(
        &self,
        mechanism: &Mechanism,
        wrapping: Object,
        key: Object,
    ) -> Result<Vec<u8>> {
        let mut mechanism = mechanism.c();
        let chosen = &raw mut mechanism;
        whole(|place, stored| {
            raw!(
                self.context,
                C_WrapKey(self.handle, chosen, wrapping, key, place, stored)
            )
        })
    }

    pub(crate) fn unwrap(
        &self,
        mechanism: &Mechanism,
        key: Object,
        wrapped: &[u8],
        attributes: &[Attribute],
    ) -> Result<Object> {
        let (data, length) = (wrapped.as_ptr().cast_mut(), wrapped.len() as CK_ULONG);
        make!(
            self,
            C_UnwrapKey(&mut mechanism.c(), key, data, length),
            attributes
        )
    }

    pub(crate) fn random(&self, size: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; size];
        let start = buffer.as_mut_ptr();
        call!(
            self.context,
            C_GenerateRandom(self.handle, start, size as CK_ULONG)
        )?;
        Ok(buffer)
    }
}
