//! PKCS#11 URIs (RFC 7512) that somebody gives.

use std::path::PathBuf;

/// What they begin with.
pub(crate) const SCHEME: &str = "pkcs11:";

/// The attributes of a URI that are used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) module: Option<PathBuf>,
    pub(crate) pin: Option<PathBuf>,
    token: Option<String>,
    serial: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    pub(crate) object: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
}

impl Uri {
    /// Reads the URI of a key. `what` is the key, as messages name it, `kind` its `type`.
    pub(crate) fn parse(text: &str, what: &str, kind: &str) -> Result<Self, String> {
        let wrong = || format!("what names the {what} is not a PKCS#11 URI (RFC 7512)");
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let attributes = path.split(';').chain(query.split('&'));
        for attribute in attributes.filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').ok_or_else(wrong)?;
            let bytes = unescaped(value).ok_or_else(wrong)?;
            let text = || String::from_utf8(bytes.clone()).map_err(|_| wrong());
            match name {
                "id" => uri.id = Some(bytes),
                "manufacturer" => uri.manufacturer = Some(text()?),
                "model" => uri.model = Some(text()?),
                "module-path" => uri.module = Some(text()?.into()),
                "object" => uri.object = Some(text()?),
                "pin-source" => {
                    let source = text()?;
                    let path = source.strip_prefix("file:").unwrap_or(&source);
                    uri.pin = Some(path.trim_start_matches("//").into());
                }
                "serial" => uri.serial = Some(text()?),
                "token" => uri.token = Some(text()?),
                "type" if bytes == kind.as_bytes() => {}
                "type" => return Err(format!("the URI of a {what} must have type={kind}")),
                "pin-value" => {
                    return Err("a PIN does not belong in a URI: use pin-source".into());
                }
                other => {
                    return Err(format!(
                        "unknown attribute {other} in the URI of the {what}"
                    ));
                }
            }
        }
        Ok(uri)
    }

    /// Whether it names a token with these properties.
    pub(crate) fn is_token(
        &self,
        label: &str,
        serial: &str,
        manufacturer: &str,
        model: &str,
    ) -> bool {
        [
            (&self.token, label),
            (&self.serial, serial),
            (&self.manufacturer, manufacturer),
            (&self.model, model),
        ]
        .iter()
        .all(|(wanted, found)| wanted.as_ref().is_none_or(|wanted| wanted == found))
    }
}

/// The bytes behind percent-encoding.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_names_module_token_and_key() {
        let uri = "pkcs11:token=Help%20desk;object=master;id=%01%AB;type=secret-key?module-path=/lib/m.so&pin-source=file:/etc/pin";
        assert_eq!(
            Uri::parse(uri, "master secret", "secret-key"),
            Ok(Uri {
                module: Some("/lib/m.so".into()),
                pin: Some("/etc/pin".into()),
                token: Some("Help desk".into()),
                serial: None,
                manufacturer: None,
                model: None,
                object: Some("master".into()),
                id: Some(vec![1, 0xAB]),
            })
        );
    }

    #[test]
    fn uri_of_something_else_is_refused() {
        for uri in [
            "http:token=a",
            "pkcs11:token",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:type=private",
            "pkcs11:token=a?pin-value=1234",
            "pkcs11:color=red",
        ] {
            let parsed = Uri::parse(uri, "master secret", "secret-key");
            assert!(parsed.is_err(), "{uri}");
        }
    }

    #[test]
    fn token_has_all_that_its_uri_says() {
        let uri = "pkcs11:model=M;manufacturer=Maker;serial=1;token=T";
        let uri = Uri::parse(uri, "key", "private").unwrap();
        assert!(uri.is_token("T", "1", "Maker", "M"));
        for (label, serial, manufacturer, model) in [
            ("U", "1", "Maker", "M"),
            ("T", "2", "Maker", "M"),
            ("T", "1", "Other", "M"),
            ("T", "1", "Maker", "N"),
        ] {
            assert!(!uri.is_token(label, serial, manufacturer, model));
        }
        let any = Uri::parse("pkcs11:", "key", "private").unwrap();
        assert!(any.is_token("T", "1", "Maker", "M"));
    }
}
