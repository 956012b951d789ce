//! The admin key in its sealed form.

use cardea_card::record::ObjectBlob;

use crate::commands::Sensitive;
use crate::core::Core;
use crate::error::TpmError;
use crate::policy::{sealed_policy, sealed_template};

/// Seals K ⊕ m under the ADM index.
pub(crate) fn seal(
    core: &mut Core,
    adm_name: &[u8],
    masked: &[u8; 24],
) -> Result<ObjectBlob, TpmError> {
    let template = sealed_template(&sealed_policy(adm_name));
    core.channel()?;
    core.room_for_key()?;
    let (tpm, srk, channel) = core.link()?.parts()?;
    let sensitive = Sensitive {
        data: masked,
        ..Sensitive::default()
    };
    let sealed = tpm.create(srk, channel, &sensitive, &template)?;
    if sealed.public.get(..template.len() - 2) != template.get(..template.len() - 2) {
        return Err(TpmError::Protocol {
            command: "Create",
            what: "not the template's object",
        });
    }
    Ok(ObjectBlob {
        private: sealed.private,
        public: sealed.public,
    })
}
