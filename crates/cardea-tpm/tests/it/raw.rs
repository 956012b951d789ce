//! Commands written by hand, for what an attacker or an administrator does beside the service.

use cardea_tpm::Service;

pub(crate) const OWNER: u32 = 0x4000_0001;
pub(crate) const LOCKOUT: u32 = 0x4000_000A;
pub(crate) const PASSWORD: u32 = 0x4000_0009;
const NULL: u32 = 0x4000_0007;

pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Who authorises a command: a password, or a session without a key (its handle).
pub(crate) enum Auth<'a> {
    Password(&'a [u8]),
    Session(u32),
}

/// Sends a command; gives the response code and the parameters (after the handle, which is the first four
/// bytes where there is one).
pub(crate) fn send(
    service: &Service,
    code: u32,
    handles: &[u32],
    auths: &[Auth<'_>],
    parameters: &[u8],
) -> (u32, Vec<u8>) {
    let mut body = Vec::new();
    for handle in handles {
        body.extend_from_slice(&handle.to_be_bytes());
    }
    let mut area = Vec::new();
    for auth in auths {
        match auth {
            Auth::Password(value) => {
                area.extend_from_slice(&PASSWORD.to_be_bytes());
                area.extend_from_slice(&[0, 0, 1]);
                area.extend_from_slice(&sized(value));
            }
            Auth::Session(handle) => {
                area.extend_from_slice(&handle.to_be_bytes());
                area.extend_from_slice(&[0, 0, 0, 0, 0]);
            }
        }
    }
    if !auths.is_empty() {
        body.extend_from_slice(&(area.len() as u32).to_be_bytes());
        body.extend_from_slice(&area);
    }
    body.extend_from_slice(parameters);
    let mut command = vec![0x80, if auths.is_empty() { 1 } else { 2 }];
    command.extend_from_slice(&(body.len() as u32 + 10).to_be_bytes());
    command.extend_from_slice(&code.to_be_bytes());
    command.extend_from_slice(&body);
    let (response, _) = service.raw(command).unwrap();
    let code = u32::from_be_bytes(response[6..10].try_into().unwrap());
    (code, response[10..].to_vec())
}

/// An unsalted policy session, which anybody can start.
pub(crate) fn policy_session(service: &Service) -> u32 {
    let parameters = [&sized(&[5; 16])[..], &[0, 0, 1, 0, 0x10, 0, 0x0B]].concat();
    let (code, response) = send(service, 0x176, &[NULL, NULL], &[], &parameters);
    assert_eq!(code, 0, "StartAuthSession");
    u32::from_be_bytes(response[..4].try_into().unwrap())
}

pub(crate) fn flush(service: &Service, handle: u32) {
    send(service, 0x165, &[], &[], &handle.to_be_bytes());
}

/// PolicySecret with a value in clear.
pub(crate) fn policy_secret(
    service: &Service,
    index: u32,
    value: &[u8],
    session: u32,
    policy_ref: &[u8],
) -> u32 {
    let parameters = [&[0; 4][..], &sized(policy_ref), &[0; 4]].concat();
    let auth = [Auth::Password(value)];
    send(service, 0x151, &[index, session], &auth, &parameters).0
}

pub(crate) fn policy_command_code(service: &Service, session: u32, code: u32) {
    let (done, _) = send(service, 0x16C, &[session], &[], &code.to_be_bytes());
    assert_eq!(done, 0, "PolicyCommandCode");
}

pub(crate) fn policy_authorize(
    service: &Service,
    session: u32,
    digest: &[u8],
    policy_ref: &[u8],
    key: &[u8],
    ticket: &[u8],
) -> u32 {
    let parameters = [&sized(digest)[..], &sized(policy_ref), &sized(key), ticket].concat();
    send(service, 0x16A, &[session], &[], &parameters).0
}

pub(crate) fn policy_digest(service: &Service, session: u32) -> Vec<u8> {
    let (code, response) = send(service, 0x189, &[session], &[], &[]);
    assert_eq!(code, 0, "PolicyGetDigest");
    response[2..].to_vec()
}

/// CreatePrimary in the owner hierarchy with this authorisation value for the key.
pub(crate) fn create_primary(service: &Service, auth: &[u8], template: &[u8]) -> u32 {
    let sensitive = [&sized(auth)[..], &[0, 0]].concat();
    let parameters = [&sized(&sensitive)[..], &sized(template), &[0; 6]].concat();
    let owner = [Auth::Password(&[])];
    let (code, response) = send(service, 0x131, &[OWNER], &owner, &parameters);
    assert_eq!(code, 0, "CreatePrimary");
    u32::from_be_bytes(response[..4].try_into().unwrap())
}

/// EvictControl: makes an object persistent, or removes a persistent one.
pub(crate) fn evict(service: &Service, object: u32, persistent: u32) {
    let (code, _) = send(
        service,
        0x120,
        &[OWNER, object],
        &[Auth::Password(&[])],
        &persistent.to_be_bytes(),
    );
    assert_eq!(code, 0, "EvictControl");
}
