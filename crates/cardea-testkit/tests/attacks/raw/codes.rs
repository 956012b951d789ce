//! Codes of commands and names of response codes (TPM 2.0 Part 2 §6.5.2, §6.6.3).

macro_rules! commands {
    ($($constant:ident $name:literal $code:literal,)+) => {
        /// Codes of commands.
        pub(crate) mod cc {
            $(pub(crate) const $constant: u32 = $code;)+
        }

        /// Every command that the standard names, in its order.
        pub(crate) const COMMANDS: &[(u32, &str)] = &[$((cc::$constant, $name)),+];
    };
}

commands! {
    NV_UNDEFINE_SPACE_SPECIAL "NV_UndefineSpaceSpecial" 0x11F,
    EVICT_CONTROL "EvictControl" 0x120,
    HIERARCHY_CONTROL "HierarchyControl" 0x121,
    NV_UNDEFINE_SPACE "NV_UndefineSpace" 0x122,
    CHANGE_EPS "ChangeEPS" 0x124,
    CHANGE_PPS "ChangePPS" 0x125,
    CLEAR "Clear" 0x126,
    CLEAR_CONTROL "ClearControl" 0x127,
    CLOCK_SET "ClockSet" 0x128,
    HIERARCHY_CHANGE_AUTH "HierarchyChangeAuth" 0x129,
    NV_DEFINE_SPACE "NV_DefineSpace" 0x12A,
    PCR_ALLOCATE "PCR_Allocate" 0x12B,
    PCR_SET_AUTH_POLICY "PCR_SetAuthPolicy" 0x12C,
    PP_COMMANDS "PP_Commands" 0x12D,
    SET_PRIMARY_POLICY "SetPrimaryPolicy" 0x12E,
    FIELD_UPGRADE_START "FieldUpgradeStart" 0x12F,
    CLOCK_RATE_ADJUST "ClockRateAdjust" 0x130,
    CREATE_PRIMARY "CreatePrimary" 0x131,
    NV_GLOBAL_WRITE_LOCK "NV_GlobalWriteLock" 0x132,
    GET_COMMAND_AUDIT_DIGEST "GetCommandAuditDigest" 0x133,
    NV_INCREMENT "NV_Increment" 0x134,
    NV_SET_BITS "NV_SetBits" 0x135,
    NV_EXTEND "NV_Extend" 0x136,
    NV_WRITE "NV_Write" 0x137,
    NV_WRITE_LOCK "NV_WriteLock" 0x138,
    LOCK_RESET "DictionaryAttackLockReset" 0x139,
    LOCK_PARAMETERS "DictionaryAttackParameters" 0x13A,
    NV_CHANGE_AUTH "NV_ChangeAuth" 0x13B,
    PCR_EVENT "PCR_Event" 0x13C,
    PCR_RESET "PCR_Reset" 0x13D,
    SEQUENCE_COMPLETE "SequenceComplete" 0x13E,
    SET_ALGORITHM_SET "SetAlgorithmSet" 0x13F,
    SET_COMMAND_CODE_AUDIT_STATUS "SetCommandCodeAuditStatus" 0x140,
    FIELD_UPGRADE_DATA "FieldUpgradeData" 0x141,
    INCREMENTAL_SELF_TEST "IncrementalSelfTest" 0x142,
    SELF_TEST "SelfTest" 0x143,
    STARTUP "Startup" 0x144,
    SHUTDOWN "Shutdown" 0x145,
    STIR_RANDOM "StirRandom" 0x146,
    ACTIVATE_CREDENTIAL "ActivateCredential" 0x147,
    CERTIFY "Certify" 0x148,
    POLICY_NV "PolicyNV" 0x149,
    CERTIFY_CREATION "CertifyCreation" 0x14A,
    DUPLICATE "Duplicate" 0x14B,
    GET_TIME "GetTime" 0x14C,
    GET_SESSION_AUDIT_DIGEST "GetSessionAuditDigest" 0x14D,
    NV_READ "NV_Read" 0x14E,
    NV_READ_LOCK "NV_ReadLock" 0x14F,
    OBJECT_CHANGE_AUTH "ObjectChangeAuth" 0x150,
    POLICY_SECRET "PolicySecret" 0x151,
    REWRAP "Rewrap" 0x152,
    CREATE "Create" 0x153,
    ECDH_ZGEN "ECDH_ZGen" 0x154,
    HMAC "HMAC" 0x155,
    IMPORT "Import" 0x156,
    LOAD "Load" 0x157,
    QUOTE "Quote" 0x158,
    RSA_DECRYPT "RSA_Decrypt" 0x159,
    HMAC_START "HMAC_Start" 0x15B,
    SEQUENCE_UPDATE "SequenceUpdate" 0x15C,
    SIGN "Sign" 0x15D,
    UNSEAL "Unseal" 0x15E,
    POLICY_SIGNED "PolicySigned" 0x160,
    CONTEXT_LOAD "ContextLoad" 0x161,
    CONTEXT_SAVE "ContextSave" 0x162,
    ECDH_KEY_GEN "ECDH_KeyGen" 0x163,
    ENCRYPT_DECRYPT "EncryptDecrypt" 0x164,
    FLUSH_CONTEXT "FlushContext" 0x165,
    LOAD_EXTERNAL "LoadExternal" 0x167,
    MAKE_CREDENTIAL "MakeCredential" 0x168,
    NV_READ_PUBLIC "NV_ReadPublic" 0x169,
    POLICY_AUTHORIZE "PolicyAuthorize" 0x16A,
    POLICY_AUTH_VALUE "PolicyAuthValue" 0x16B,
    POLICY_COMMAND_CODE "PolicyCommandCode" 0x16C,
    POLICY_COUNTER_TIMER "PolicyCounterTimer" 0x16D,
    POLICY_CP_HASH "PolicyCpHash" 0x16E,
    POLICY_LOCALITY "PolicyLocality" 0x16F,
    POLICY_NAME_HASH "PolicyNameHash" 0x170,
    POLICY_OR "PolicyOR" 0x171,
    POLICY_TICKET "PolicyTicket" 0x172,
    READ_PUBLIC "ReadPublic" 0x173,
    RSA_ENCRYPT "RSA_Encrypt" 0x174,
    START_AUTH_SESSION "StartAuthSession" 0x176,
    VERIFY_SIGNATURE "VerifySignature" 0x177,
    ECC_PARAMETERS "ECC_Parameters" 0x178,
    FIRMWARE_READ "FirmwareRead" 0x179,
    GET_CAPABILITY "GetCapability" 0x17A,
    GET_RANDOM "GetRandom" 0x17B,
    GET_TEST_RESULT "GetTestResult" 0x17C,
    HASH "Hash" 0x17D,
    PCR_READ "PCR_Read" 0x17E,
    POLICY_PCR "PolicyPCR" 0x17F,
    POLICY_RESTART "PolicyRestart" 0x180,
    READ_CLOCK "ReadClock" 0x181,
    PCR_EXTEND "PCR_Extend" 0x182,
    PCR_SET_AUTH_VALUE "PCR_SetAuthValue" 0x183,
    NV_CERTIFY "NV_Certify" 0x184,
    EVENT_SEQUENCE_COMPLETE "EventSequenceComplete" 0x185,
    HASH_SEQUENCE_START "HashSequenceStart" 0x186,
    POLICY_PHYSICAL_PRESENCE "PolicyPhysicalPresence" 0x187,
    POLICY_DUPLICATION_SELECT "PolicyDuplicationSelect" 0x188,
    POLICY_GET_DIGEST "PolicyGetDigest" 0x189,
    TEST_PARMS "TestParms" 0x18A,
    COMMIT "Commit" 0x18B,
    POLICY_PASSWORD "PolicyPassword" 0x18C,
    ZGEN_2PHASE "ZGen_2Phase" 0x18D,
    EC_EPHEMERAL "EC_Ephemeral" 0x18E,
    POLICY_NV_WRITTEN "PolicyNvWritten" 0x18F,
    POLICY_TEMPLATE "PolicyTemplate" 0x190,
    CREATE_LOADED "CreateLoaded" 0x191,
    POLICY_AUTHORIZE_NV "PolicyAuthorizeNV" 0x192,
    ENCRYPT_DECRYPT_2 "EncryptDecrypt2" 0x193,
    AC_GET_CAPABILITY "AC_GetCapability" 0x194,
    AC_SEND "AC_Send" 0x195,
    POLICY_AC_SEND_SELECT "Policy_AC_SendSelect" 0x196,
    CERTIFY_X509 "CertifyX509" 0x197,
    ACT_SET_TIMEOUT "ACT_SetTimeout" 0x198,
    ECC_ENCRYPT "ECC_Encrypt" 0x199,
    ECC_DECRYPT "ECC_Decrypt" 0x19A,
    POLICY_CAPABILITY "PolicyCapability" 0x19B,
    POLICY_PARAMETERS "PolicyParameters" 0x19C,
    NV_DEFINE_SPACE_2 "NV_DefineSpace2" 0x19D,
    NV_READ_PUBLIC_2 "NV_ReadPublic2" 0x19E,
    SET_CAPABILITY "SetCapability" 0x19F,
}

/// The standard's name of a command.
pub(crate) fn command_name(code: u32) -> String {
    let mut commands = COMMANDS.iter();
    match commands.find(|(found, _)| *found == code) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("command {code:#x}"),
    }
}

/// Errors that name a handle, session or parameter (format one).
const FORMAT_ONE: &[(u32, &str)] = &[
    (0x82, "ATTRIBUTES"),
    (0x83, "HASH"),
    (0x84, "VALUE"),
    (0x85, "HIERARCHY"),
    (0x87, "KEY_SIZE"),
    (0x89, "MODE"),
    (0x8A, "TYPE"),
    (0x8B, "HANDLE"),
    (0x8C, "KDF"),
    (0x8D, "RANGE"),
    (0x8E, "AUTH_FAIL"),
    (0x90, "PP"),
    (0x92, "SCHEME"),
    (0x95, "SIZE"),
    (0x96, "SYMMETRIC"),
    (0x97, "TAG"),
    (0x98, "SELECTOR"),
    (0x9A, "INSUFFICIENT"),
    (0x9B, "SIGNATURE"),
    (0x9C, "KEY"),
    (0x9D, "POLICY_FAIL"),
    (0x9F, "INTEGRITY"),
    (0xA0, "TICKET"),
    (0xA1, "RESERVED_BITS"),
    (0xA2, "BAD_AUTH"),
    (0xA3, "EXPIRED"),
    (0xA4, "POLICY_CC"),
    (0xA5, "BINDING"),
    (0xA6, "CURVE"),
    (0xA7, "ECC_POINT"),
];

/// Other errors, and warnings.
const OTHERS: &[(u32, &str)] = &[
    (0x000, "SUCCESS"),
    (0x100, "INITIALIZE"),
    (0x101, "FAILURE"),
    (0x120, "DISABLED"),
    (0x124, "AUTH_TYPE"),
    (0x125, "AUTH_MISSING"),
    (0x12F, "AUTH_UNAVAILABLE"),
    (0x143, "COMMAND_CODE"),
    (0x145, "AUTH_CONTEXT"),
    (0x146, "NV_RANGE"),
    (0x147, "NV_SIZE"),
    (0x148, "NV_LOCKED"),
    (0x149, "NV_AUTHORIZATION"),
    (0x14A, "NV_UNINITIALIZED"),
    (0x14B, "NV_SPACE"),
    (0x14C, "NV_DEFINED"),
    (0x152, "PARENT"),
    (0x154, "NO_RESULT"),
    (0x901, "CONTEXT_GAP"),
    (0x902, "OBJECT_MEMORY"),
    (0x903, "SESSION_MEMORY"),
    (0x905, "SESSION_HANDLES"),
    (0x910, "REFERENCE_H0"),
    (0x911, "REFERENCE_H1"),
    (0x918, "REFERENCE_S0"),
    (0x921, "LOCKOUT"),
];

/// What a response code says: the standard's name, and of which handle, session or parameter it is said.
pub(crate) fn response_name(code: u32) -> Option<String> {
    let named = |table: &[(u32, &'static str)], code: u32| {
        let mut table = table.iter();
        table
            .find(|(found, _)| *found == code)
            .map(|(_, name)| *name)
    };
    if code & 0x80 == 0 {
        return named(OTHERS, code).map(str::to_owned);
    }
    let name = named(FORMAT_ONE, code & 0xBF)?;
    let number = code >> 8 & 0xF;
    Some(match (code & 0x40 != 0, number) {
        (false, 0) => name.to_owned(),
        (true, parameter) => format!("{name}, parameter {parameter}"),
        (false, session) if session & 8 != 0 => format!("{name}, session {}", session & 7),
        (false, handle) => format!("{name}, handle {handle}"),
    })
}
