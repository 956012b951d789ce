//! Evidence and credentials with a software TPM: what it signs is accepted, and it opens what is made for it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cardea_pki::{Certificate, PathCertificate};
use cardea_terms::KeyClass;

use super::credential::{POLICY_A, POLICY_B};
use super::maker::{BIRTH, Expected, target};
use super::{Random, hex};
use crate::authority::Policy;
use crate::exchange::{
    Answer, Challenge, OfferedKey, Request, RequestForm, TpmDescription, answer_data,
};
use crate::policy::{self, name_of, nv_public, signing_public};
use crate::wire::{Wire, put_sized};
use crate::{
    Authority, Bundle, Code, Creation, EkOrigin, EkTrust, EndorsementKey, Form, Index, Key, Level,
    Role, Statement, Tries, certificates_in_nv, make_credential, name_of_public, qualifying_data,
};

const OWNER: u32 = 0x4000_0001;
const ENDORSEMENT: u32 = 0x4000_000B;
const NULL: u32 = 0x4000_0007;
/// The session for empty passwords.
const PASSWORD: u32 = 0x4000_0009;
const PIN_INDEX: u32 = 0x01C2_0000;

mod code {
    pub(super) const NV_DEFINE_SPACE: u32 = 0x12A;
    pub(super) const CREATE_PRIMARY: u32 = 0x131;
    pub(super) const NV_WRITE: u32 = 0x137;
    pub(super) const ACTIVATE_CREDENTIAL: u32 = 0x147;
    pub(super) const CERTIFY: u32 = 0x148;
    pub(super) const CERTIFY_CREATION: u32 = 0x14A;
    pub(super) const NV_READ: u32 = 0x14E;
    pub(super) const POLICY_SECRET: u32 = 0x151;
    pub(super) const CREATE: u32 = 0x153;
    pub(super) const LOAD: u32 = 0x157;
    pub(super) const FLUSH_CONTEXT: u32 = 0x165;
    pub(super) const LOAD_EXTERNAL: u32 = 0x167;
    pub(super) const NV_READ_PUBLIC: u32 = 0x169;
    pub(super) const POLICY_AUTHORIZE: u32 = 0x16A;
    pub(super) const POLICY_COMMAND_CODE: u32 = 0x16C;
    pub(super) const START_AUTH_SESSION: u32 = 0x176;
    pub(super) const VERIFY_SIGNATURE: u32 = 0x177;
    pub(super) const NV_CERTIFY: u32 = 0x184;
}

/// swtpm, and the connection to it; it ends with the connection.
struct Tpm {
    process: Child,
    stream: UnixStream,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_sized(&mut out, bytes);
    out
}

impl Tpm {
    fn start(folder: &Path) -> Self {
        let (socket, control) = (folder.join("sock"), folder.join("sock.ctrl"));
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", folder.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(since.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { process, stream }
    }

    /// A command; returns the handle, if one comes back, and the parameters.
    fn call(
        &mut self,
        code: u32,
        handles: &[u32],
        sessions: &[u32],
        parameters: &[&[u8]],
    ) -> (u32, Vec<u8>) {
        let mut body = code.to_be_bytes().to_vec();
        for handle in handles {
            body.extend_from_slice(&handle.to_be_bytes());
        }
        if !sessions.is_empty() {
            body.extend_from_slice(&(9 * u32::try_from(sessions.len()).unwrap()).to_be_bytes());
            for session in sessions {
                body.extend_from_slice(&session.to_be_bytes());
                // No nonce, the session ends with the command, no HMAC.
                body.extend_from_slice(&[0; 5]);
            }
        }
        body.extend_from_slice(&parameters.concat());
        let tag: [u8; 2] = if sessions.is_empty() {
            [0x80, 0x01]
        } else {
            [0x80, 0x02]
        };
        let length = u32::try_from(body.len() + 6).unwrap();
        let command = [&tag[..], &length.to_be_bytes(), &body].concat();
        let rest = loop {
            self.stream.write_all(&command).unwrap();
            let mut head = [0; 10];
            self.stream.read_exact(&mut head).unwrap();
            let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
            let mut rest = vec![0; usize::try_from(number(2)).unwrap() - 10];
            self.stream.read_exact(&mut rest).unwrap();
            match number(6) {
                0 => break rest,
                // TPM_RC_RETRY: the first use of an empty password that counts.
                0x922 => {}
                failed => panic!("command {code:03X}: {failed:03X}"),
            }
        };
        let mut wire = Wire::new(&rest);
        let handle = match code {
            code::CREATE_PRIMARY | code::LOAD | code::LOAD_EXTERNAL | code::START_AUTH_SESSION => {
                wire.u32().unwrap()
            }
            _ => 0,
        };
        let handles_length = if handle == 0 { 0 } else { 4 };
        let parameters = if sessions.is_empty() {
            rest[handles_length..].to_vec()
        } else {
            let length = wire.u32().unwrap();
            wire.take(usize::try_from(length).unwrap())
                .unwrap()
                .to_vec()
        };
        (handle, parameters)
    }

    fn flush(&mut self, handle: u32) {
        self.call(code::FLUSH_CONTEXT, &[handle], &[], &[]);
    }

    /// A primary key: its handle and its TPMT_PUBLIC.
    fn primary(&mut self, hierarchy: u32, template: &[u8]) -> (u32, Vec<u8>) {
        let parameters: [&[u8]; 4] = [&[0, 4, 0, 0, 0, 0], &sized(template), &[0, 0], &[0; 4]];
        let (handle, found) =
            self.call(code::CREATE_PRIMARY, &[hierarchy], &[PASSWORD], &parameters);
        let public = Wire::new(&found).sized().unwrap().to_vec();
        (handle, public)
    }

    fn create(&mut self, parent: u32, template: &[u8], outside_info: &[u8]) -> Created {
        let parameters: [&[u8]; 4] = [
            &[0, 4, 0, 0, 0, 0],
            &sized(template),
            &sized(outside_info),
            &[0; 4],
        ];
        let (_, found) = self.call(code::CREATE, &[parent], &[PASSWORD], &parameters);
        let mut wire = Wire::new(&found);
        let mut next = || wire.sized().unwrap().to_vec();
        let (private, public, data, hash) = (next(), next(), next(), next());
        let behind = [&private, &public, &data, &hash].map(|part| part.len() + 2);
        let ticket = found[behind.iter().sum::<usize>()..].to_vec();
        let parameters: [&[u8]; 2] = [&sized(&private), &sized(&public)];
        let (handle, _) = self.call(code::LOAD, &[parent], &[PASSWORD], &parameters);
        Created {
            handle,
            public,
            data,
            hash,
            ticket,
        }
    }

    fn policy_session(&mut self) -> u32 {
        let nonce = sized(&[1; 16]);
        // No salt; a policy session; no parameter encryption; SHA-256.
        let parameters: [&[u8]; 2] = [&nonce, &[0, 0, 1, 0, 0x10, 0, 0x0B]];
        self.call(code::START_AUTH_SESSION, &[NULL, NULL], &[], &parameters)
            .0
    }

    /// A session for the policy of endorsement keys of the low range.
    fn endorsement_session(&mut self) -> u32 {
        let session = self.policy_session();
        // No nonce, no cpHash, no reference, no expiry.
        let handles = [ENDORSEMENT, session];
        self.call(code::POLICY_SECRET, &handles, &[PASSWORD], &[&[0; 10]]);
        session
    }

    /// Opens a challenge for an object, with the RSA endorsement key.
    fn activate(&mut self, object: u32, challenge: &Challenge) -> Vec<u8> {
        let (key, _) = self.primary(ENDORSEMENT, &low_template());
        let session = self.endorsement_session();
        let parameters: [&[u8]; 2] = [&sized(&challenge.blob), &sized(&challenge.seed)];
        let sessions = [PASSWORD, session];
        let handles = [object, key];
        let (_, opened) = self.call(code::ACTIVATE_CREDENTIAL, &handles, &sessions, &parameters);
        self.flush(key);
        Wire::new(&opened).sized().unwrap().to_vec()
    }

    /// The whole content of an index that needs no password.
    fn read_index(&mut self, index: u32) -> Vec<u8> {
        let (_, public) = self.call(code::NV_READ_PUBLIC, &[index], &[], &[]);
        let area = Wire::new(&public).sized().unwrap();
        let size = u16::from_be_bytes(area[area.len() - 2..].try_into().unwrap());
        let mut content = Vec::new();
        while content.len() < usize::from(size) {
            let offset = u16::try_from(content.len()).unwrap();
            let part = (size - offset).min(512);
            let parameters: [&[u8]; 2] = [&part.to_be_bytes(), &offset.to_be_bytes()];
            let handles = [index, index];
            let (_, read) = self.call(code::NV_READ, &handles, &[PASSWORD], &parameters);
            content.extend_from_slice(Wire::new(&read).sized().unwrap());
        }
        content
    }

    /// TPM2_Certify of an object by another, over some extraData.
    fn certify(&mut self, object: u32, signer: u32, extra_data: &[u8]) -> Statement {
        let parameters: [&[u8]; 2] = [&sized(extra_data), &[0, 0x10]];
        let handles = [object, signer];
        let sessions = [PASSWORD; 2];
        let (_, certified) = self.call(code::CERTIFY, &handles, &sessions, &parameters);
        statement(&certified)
    }

    /// A session that the birth key approved for one command on the PIN's index.
    fn approved_session(&mut self, command: u32) -> u32 {
        let session = self.policy_session();
        let wanted = command.to_be_bytes();
        self.call(code::POLICY_COMMAND_CODE, &[session], &[], &[&wanted]);
        let digest = policy::hash(&[&[0; 32], &0x16Cu32.to_be_bytes(), &wanted]);
        let (birth, ticket) = self.approve(&digest);
        let parameters: [&[u8]; 4] = [
            &sized(&digest),
            &sized(b"pin"),
            &sized(&name_of(&birth)),
            &ticket,
        ];
        self.call(code::POLICY_AUTHORIZE, &[session], &[], &parameters);
        session
    }

    /// The birth key's approval of a policy, as a ticket.
    fn approve(&mut self, digest: &[u8; 32]) -> (Vec<u8>, Vec<u8>) {
        let birth = birth_key();
        let hierarchy = OWNER.to_be_bytes();
        let parameters: [&[u8]; 3] = [&[0, 0], &sized(&birth), &hierarchy];
        let (handle, _) = self.call(code::LOAD_EXTERNAL, &[], &[], &parameters);
        let message = [&digest[..], b"pin"].concat();
        let signature = BIRTH.sign(&message).to_bytes();
        let parameters: [&[u8]; 4] = [
            &sized(&policy::hash(&[&message])),
            &[0, 0x18, 0, 0x0B],
            &sized(&signature[..32]),
            &sized(&signature[32..]),
        ];
        let (_, ticket) = self.call(code::VERIFY_SIGNATURE, &[handle], &[], &parameters);
        self.flush(handle);
        (birth, ticket)
    }
}

/// An object below the storage root key.
struct Created {
    handle: u32,
    public: Vec<u8>,
    data: Vec<u8>,
    hash: Vec<u8>,
    ticket: Vec<u8>,
}

fn birth_key() -> Vec<u8> {
    let (x, y) = BIRTH.point();
    signing_public(0x0004_0040, &[], &x, &y)
}

/// TPMS_ATTEST and TPMT_SIGNATURE of a response.
fn statement(parameters: &[u8]) -> Statement {
    let attest = Wire::new(parameters).sized().unwrap().to_vec();
    Statement {
        signature: parameters[2 + attest.len()..].to_vec(),
        attest,
    }
}

fn template(attributes: u32, policy: &[u8], parameters: &str) -> Vec<u8> {
    let mut area = hex("0023000b");
    area.extend_from_slice(&attributes.to_be_bytes());
    put_sized(&mut area, policy);
    area.extend_from_slice(&hex(parameters));
    area
}

/// AES-128-CFB, scheme NULL, P-256, KDF NULL, no point yet.
const STORAGE: &str = "00060080004300100003001000000000";
/// Symmetric NULL, ECDSA with SHA-256, P-256, KDF NULL, no point yet.
const SIGNING: &str = "00100018000b0003001000000000";
/// Symmetric and scheme NULL, P-256, KDF NULL, no point yet.
const PLAIN: &str = "001000100003001000000000";

fn attested_key(
    tpm: &mut Tpm,
    (srk, ak): (u32, u32),
    (attributes, policy): (u32, &[u8; 32]),
    q: &[u8],
    targets: &[Vec<u8>],
) -> Key {
    let made = tpm.create(srk, &template(attributes, policy, PLAIN), b"a nonce");
    let scheme = [0, 0x10];
    let parameters: [&[u8]; 2] = [q, &scheme];
    let sessions = [PASSWORD, PASSWORD];
    let (_, certified) = tpm.call(code::CERTIFY, &[made.handle, ak], &sessions, &parameters);
    let parameters: [&[u8]; 4] = [q, &sized(&made.hash), &scheme, &made.ticket];
    let handles = [ak, made.handle];
    let (_, creation) = tpm.call(code::CERTIFY_CREATION, &handles, &[PASSWORD], &parameters);
    tpm.flush(made.handle);
    Key {
        public: made.public,
        statement: statement(&certified),
        creation: Some(Creation {
            data: made.data,
            statement: statement(&creation),
            targets: targets.to_vec(),
        }),
    }
}

#[test]
fn evidence_that_a_software_tpm_signed_is_accepted_at_level_1() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = &mut Tpm::start(folder.path());
    let (srk, srk_public) = tpm.primary(OWNER, &template(0x0003_0472, &[], STORAGE));
    let ak = tpm.create(srk, &template(0x0005_0472, &[], SIGNING), &[]);
    let policy = policy::approved_by(&name_of(&birth_key()));
    let defined = nv_public(&PIN_INDEX.to_be_bytes(), 0x0208_0088, &policy, 8);
    let parameters: [&[u8]; 2] = [&[0, 0], &sized(&defined)];
    tpm.call(code::NV_DEFINE_SPACE, &[OWNER], &[PASSWORD], &parameters);
    let session = tpm.approved_session(code::NV_WRITE);
    let counts = [0, 7].map(u32::to_be_bytes).concat();
    let parameters: [&[u8]; 2] = [&sized(&counts), &[0, 0]];
    let handles = [PIN_INDEX, PIN_INDEX];
    tpm.call(code::NV_WRITE, &handles, &[session], &parameters);

    let nonce = b"asked for by a stranger".to_vec();
    let q = sized(&qualifying_data(&nonce));
    let session = tpm.approved_session(code::NV_CERTIFY);
    // Scheme NULL, all eight bytes from the first.
    let parameters: [&[u8]; 2] = [&q, &[0, 0x10, 0, 8, 0, 0]];
    let handles = [ak.handle, PIN_INDEX, PIN_INDEX];
    let sessions = [PASSWORD, session];
    let (_, certified) = tpm.call(code::NV_CERTIFY, &handles, &sessions, &parameters);
    let (_, found) = tpm.call(code::NV_READ_PUBLIC, &[PIN_INDEX], &[], &[]);
    let index = Wire::new(&found).sized().unwrap().to_vec();

    let k = policy::key(&name_of(&index), KeyClass::Always);
    let targets = [target(40)];
    let recoverable = policy::or(&[k, policy::duplication(&name_of(&targets[0]))]);
    let both = (srk, ak.handle);
    let bundle = Bundle {
        nonce: nonce.clone(),
        form: Form::Approved,
        attestation_key: ak.public.clone(),
        certificates: Vec::new(),
        storage_root_key: srk_public,
        birth_key: birth_key(),
        indices: vec![Index {
            role: Role::Pin,
            public: index,
            statement: statement(&certified),
        }],
        keys: vec![
            attested_key(tpm, both, (0x0006_0432, &k), &q, &[]),
            attested_key(tpm, both, (0x0006_0420, &recoverable), &q, &targets),
        ],
        note: None,
    };
    let expected = Expected {
        nonce: Some(nonce),
        pins: vec![name_of_public(&ak.public).unwrap()],
        ..Expected::default()
    };
    let claims = expected.verify(&bundle.encode()).unwrap();
    assert_eq!((claims.level, claims.is_fresh), (Level::L1, true));
    assert_eq!(claims.authority, Authority::Pinned);
    assert_eq!(claims.pin, Tries { limit: 7, wrong: 0 });
    let recovery: Vec<_> = claims.keys.iter().map(|key| key.recovery.len()).collect();
    assert_eq!(recovery, [0, 1]);
    assert!(claims.keys.iter().all(|key| key.class == KeyClass::Always));
    let creation = claims.keys[1].creation.as_ref().unwrap();
    assert_eq!(creation.outside_info, b"a nonce");
}

#[test]
fn software_tpm_opens_the_credentials_of_all_its_endorsement_keys() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = &mut Tpm::start(folder.path());
    let (srk, _) = tpm.primary(OWNER, &template(0x0003_0472, &[], STORAGE));
    let ak = tpm.create(srk, &template(0x0005_0472, &[], SIGNING), &[]);
    let zeros = |length: usize| sized(&vec![0; length]);
    let (low, high) = (sized(&hex(POLICY_A)), sized(&hex(POLICY_B)));
    let templates = [
        // L-1, L-2, and P-384 of the high range, which takes an empty password.
        (low_template(), true),
        (
            [
                &hex("0023000b000300b2")[..],
                &low,
                &hex("000600800043001000030010"),
                &zeros(32),
                &zeros(32),
            ]
            .concat(),
            true,
        ),
        (
            [
                &hex("0023000c000300f2")[..],
                &high,
                &hex("00060100004300100004001000000000"),
            ]
            .concat(),
            false,
        ),
    ];
    let mut random = Random(9);
    for (template, has_policy) in templates {
        let (handle, public) = tpm.primary(ENDORSEMENT, &template);
        let key = EndorsementKey::parse(&public).unwrap();
        // The zeros at its end are part of a secret.
        let mut secret = vec![0; 32];
        random.fill(&mut secret[..30]);
        let name = name_of_public(&ak.public).unwrap();
        let made =
            make_credential(&key, &name, &secret, &mut |buffer| random.fill(buffer)).unwrap();
        let session = if has_policy {
            tpm.endorsement_session()
        } else {
            PASSWORD
        };
        let parameters: [&[u8]; 2] = [&sized(&made.blob), &sized(&made.seed)];
        let sessions = [PASSWORD, session];
        let handles = [ak.handle, handle];
        let (_, opened) = tpm.call(code::ACTIVATE_CREDENTIAL, &handles, &sessions, &parameters);
        assert_eq!(opened, sized(&secret));
        tpm.flush(handle);
    }
}

/// L-1: the endorsement key with RSA.
fn low_template() -> Vec<u8> {
    [
        &hex("0001000b000300b2")[..],
        &sized(&hex(POLICY_A)),
        &hex("0006008000430010080000000000"),
        &sized(&[0; 256]),
    ]
    .concat()
}

/// A TPM as its maker delivers it, in a folder; returns the certificates of the maker's root and of what lies below.
fn deliver(folder: &Path) -> [PathCertificate; 2] {
    let authority = folder.join("authority");
    std::fs::create_dir(&authority).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let at = authority.display();
    let settings = write(
        "localca.conf",
        &format!(
            "statedir = {at}\nsigningkey = {at}/signkey.pem\nissuercert = {at}/issuercert.pem\n\
             certserial = {at}/certserial\n"
        ),
    );
    let options = write("localca.options", "");
    let setup = write(
        "setup.conf",
        &format!(
            "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {settings}\n\
             create_certs_tool_options = {options}\n"
        ),
    );
    let made = Command::new("swtpm_setup")
        .args(["--tpm2", "--createek", "--create-ek-cert", "--lock-nvram"])
        .args(["--overwrite", "--config", &setup, "--tpmstate"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    ["swtpm-localca-rootca-cert.pem", "issuercert.pem"].map(|name| {
        let content = std::fs::read(authority.join(name)).unwrap();
        let certificate = Certificate::parse(&content).unwrap();
        PathCertificate::parse(certificate.der()).unwrap()
    })
}

#[test]
fn authority_certifies_the_attestation_key_of_a_delivered_tpm_once() {
    let folder = tempfile::tempdir().unwrap();
    let [root, between] = deliver(folder.path());
    let tpm = &mut Tpm::start(folder.path());
    let low = low_template();
    let (ek, ek_public) = tpm.primary(ENDORSEMENT, &low);
    let content = tpm.read_index(0x01C0_0002);
    // No more than three objects are loaded at once.
    tpm.flush(ek);
    let (srk, srk_public) = tpm.primary(OWNER, &template(0x0003_0472, &[], STORAGE));
    let ak = tpm.create(srk, &template(0x0005_0472, &[], SIGNING), &[]);
    let witness = template(0x0005_0432, &policy::witness(1), SIGNING);
    let witness = tpm.create(srk, &witness, &[]);
    tpm.flush(srk);
    let request = Request {
        attestation_key: ak.public.clone(),
        endorsement_keys: vec![OfferedKey {
            public: ek_public,
            certificates: certificates_in_nv(&content).unwrap(),
        }],
        storage_root_key: srk_public,
        tpm: TpmDescription {
            manufacturer: *b"IBM\0",
            model: "SW   TPM".to_owned(),
            firmware: 0,
            revision: 164,
        },
        form: RequestForm::Sealed {
            made_at_reset: 1,
            witness: witness.public.clone(),
        },
        name: None,
    };

    let now = root.not_before().max(between.not_before()) + 3600;
    let mut random = Random(50);
    let authority = Policy {
        trust: EkTrust {
            roots: &[root],
            intermediates: &[between],
            ..EkTrust::default()
        },
        bad_firmware: &[],
        state_key: &[3; 32],
        challenge_seconds: 600,
    };
    let made = authority.challenge(&request, now, &mut |buffer| random.fill(buffer));
    let challenge = made.unwrap().challenge;
    let secret = tpm.activate(ak.handle, &challenge);
    let q = answer_data(&secret);
    let answer = Answer {
        secret,
        state: challenge.state,
        attestation_key: tpm.certify(ak.handle, ak.handle, &q),
        witness: Some(tpm.certify(witness.handle, ak.handle, &q)),
    };
    let answer = Answer::decode(&answer.encode()).unwrap();
    let decision = authority.decide(&answer, now + 5, &|_| false).unwrap();
    assert_eq!(Some(decision.name), name_of_public(&ak.public));
    assert_eq!(decision.tpm.origin, EkOrigin::Certificate);
    assert_eq!(decision.tpm.identity.model, "swtpm");
    let used = |challenge: &[u8; 32]| *challenge == decision.challenge;
    let again = authority.decide(&answer, now + 5, &used);
    assert_eq!(again.unwrap_err().code, Code::AnswerUsed);

    // The same with an attestation key that is a primary key of the endorsement hierarchy.
    tpm.flush(witness.handle);
    tpm.flush(ak.handle);
    let (primary, primary_public) = tpm.primary(ENDORSEMENT, &template(0x0005_0472, &[], SIGNING));
    let request = Request {
        attestation_key: primary_public,
        form: RequestForm::Approved,
        ..request
    };
    let made = authority.challenge(&request, now, &mut |buffer| random.fill(buffer));
    let challenge = made.unwrap().challenge;
    let secret = tpm.activate(primary, &challenge);
    let answer = Answer {
        attestation_key: tpm.certify(primary, primary, &answer_data(&secret)),
        witness: None,
        state: challenge.state,
        secret,
    };
    let refusal = authority.decide(&answer, now + 5, &|_| false).unwrap_err();
    assert_eq!(refusal.code, Code::AkHierarchy);
}
