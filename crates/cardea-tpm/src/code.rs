//! Command codes besides those of [`cc`](crate::policy::cc) (TPM 2.0 Part 2 §6.5.2).

use tpm2_protocol::data::TpmCc;

pub(crate) const EVICT_CONTROL: u32 = TpmCc::EvictControl as u32;
pub(crate) const NV_UNDEFINE_SPACE: u32 = TpmCc::NvUndefineSpace as u32;
pub(crate) const NV_DEFINE_SPACE: u32 = TpmCc::NvDefineSpace as u32;
pub(crate) const CREATE_PRIMARY: u32 = TpmCc::CreatePrimary as u32;
pub(crate) const STARTUP: u32 = TpmCc::Startup as u32;
pub(crate) const CREATE: u32 = TpmCc::Create as u32;
pub(crate) const ECDH_ZGEN: u32 = TpmCc::EcdhZGen as u32;
pub(crate) const CONTEXT_LOAD: u32 = TpmCc::ContextLoad as u32;
pub(crate) const CONTEXT_SAVE: u32 = TpmCc::ContextSave as u32;
pub(crate) const HIERARCHY_CHANGE_AUTH: u32 = TpmCc::HierarchyChangeAuth as u32;
pub(crate) const SET_PRIMARY_POLICY: u32 = TpmCc::SetPrimaryPolicy as u32;
pub(crate) const LOCK_RESET: u32 = TpmCc::DictionaryAttackLockReset as u32;
pub(crate) const LOCK_PARAMETERS: u32 = TpmCc::DictionaryAttackParameters as u32;
pub(crate) const IMPORT: u32 = TpmCc::Import as u32;
pub(crate) const LOAD: u32 = TpmCc::Load as u32;
pub(crate) const RSA_DECRYPT: u32 = TpmCc::RsaDecrypt as u32;
pub(crate) const SIGN: u32 = TpmCc::Sign as u32;
pub(crate) const FLUSH_CONTEXT: u32 = TpmCc::FlushContext as u32;
pub(crate) const LOAD_EXTERNAL: u32 = TpmCc::LoadExternal as u32;
pub(crate) const NV_READ_PUBLIC: u32 = TpmCc::NvReadPublic as u32;
pub(crate) const READ_PUBLIC: u32 = TpmCc::ReadPublic as u32;
pub(crate) const START_AUTH_SESSION: u32 = TpmCc::StartAuthSession as u32;
pub(crate) const VERIFY_SIGNATURE: u32 = TpmCc::VerifySignature as u32;
pub(crate) const GET_CAPABILITY: u32 = TpmCc::GetCapability as u32;
pub(crate) const POLICY_RESTART: u32 = TpmCc::PolicyRestart as u32;
pub(crate) const POLICY_AUTHORIZE_NV: u32 = TpmCc::PolicyAuthorizeNv as u32;
pub(crate) const POLICY_COUNTER_TIMER: u32 = TpmCc::PolicyCounterTimer as u32;
pub(crate) const POLICY_TICKET: u32 = TpmCc::PolicyTicket as u32;
pub(crate) const POLICY_GET_DIGEST: u32 = TpmCc::PolicyGetDigest as u32;
pub(crate) const GET_RANDOM: u32 = TpmCc::GetRandom as u32;
pub(crate) const GET_TEST_RESULT: u32 = TpmCc::GetTestResult as u32;
pub(crate) const SHUTDOWN: u32 = TpmCc::Shutdown as u32;
pub(crate) const TEST_PARMS: u32 = TpmCc::TestParms as u32;
pub(crate) const HMAC: u32 = TpmCc::Hmac as u32;
pub(crate) const READ_CLOCK: u32 = TpmCc::ReadClock as u32;
