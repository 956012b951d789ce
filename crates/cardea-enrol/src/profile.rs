//! Profiles: what an organisation decides once, in files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::order::{Order, Protocol};
use crate::trust::Trust;

/// Whether requests prove where their key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attest {
    /// Never.
    #[default]
    No,
    /// Always.
    Required,
}

/// A profile, `NAME.toml` in one of the folders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// EST or CMP.
    pub protocol: Protocol,
    /// Where.
    pub url: String,
    /// A PEM file with the authorities to trust.
    pub trust: Option<PathBuf>,
    /// EST's label.
    pub label: Option<String>,
    /// As `CN={user}`.
    #[serde(default)]
    pub subject: String,
    /// Other names.
    #[serde(default)]
    pub san: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub eku: Vec<String>,
    /// What the key may do.
    #[serde(default)]
    pub key_usage: Vec<String>,
    /// Of a new key: `rsa-2048` and so on.
    pub algorithm: Option<String>,
    /// Of a new key: whether every use needs the PIN.
    #[serde(default)]
    pub pin_every_time: bool,
    /// Whether requests prove where their key is.
    #[serde(default)]
    pub attest: Attest,
    /// Days before the end at which it is due.
    pub renew_at: Option<u32>,
    /// CMP: whether a MAC with SHA-1 is believed, as OpenSSL 3.0 makes it.
    #[serde(default)]
    pub allow_sha1_mac: bool,
}

impl Profile {
    /// Finds a profile in the first folder that has it.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that cannot be one, a profile that is not there or cannot be read.
    pub fn find(name: &str, folders: &[PathBuf]) -> Result<Self, Error> {
        let is_plain = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !name.starts_with('.');
        if !is_plain {
            return Err(Error::Usage(format!(
                "{name} cannot be the name of a profile: letters, digits, - and _"
            )));
        }
        for folder in folders {
            let path = folder.join(format!("{name}.toml"));
            match fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&text, &path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::Usage(format!("{}: {error}", path.display()))),
            }
        }
        let places: Vec<String> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        Err(Error::Usage(format!(
            "there is no profile {name} in {}",
            places.join(" or ")
        )))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let profile: Self = toml::from_str(text)
            .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        if profile.protocol == Protocol::Est && !profile.url.starts_with("https://") {
            return Err(Error::Usage(format!(
                "{}: the address of an EST authority begins with https://",
                path.display()
            )));
        }
        Ok(profile)
    }

    /// The order, with `{user}` and `{fqdn}` filled in.
    ///
    /// # Errors
    /// [`Error::Usage`] for a gap that nobody can fill, and for a trust file that cannot be read.
    pub fn order(&self, name: &str, user: &str, fqdn: &str) -> Result<Order, Error> {
        let fill = |text: &String| filled(text, user, fqdn);
        let fill_all = |texts: &[String]| texts.iter().map(fill).collect::<Result<Vec<_>, _>>();
        let trust = match &self.trust {
            Some(path) => {
                let content = fs::read(path)
                    .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
                Some(Trust::from_file_content(&content)?)
            }
            None => None,
        };
        Ok(Order {
            protocol: self.protocol,
            url: self.url.clone(),
            label: self.label.clone(),
            profile: Some(name.to_owned()),
            trust,
            subject: fill(&self.subject)?,
            san: fill_all(&self.san)?,
            eku: self.eku.clone(),
            key_usage: self.key_usage.clone(),
            attest: self.attest == Attest::Required,
            algorithm: self
                .algorithm
                .clone()
                .unwrap_or_else(|| "rsa-2048".to_owned()),
            key_label: None,
            pin_every_time: self.pin_every_time,
            renew_at: self.renew_at,
            allow_sha1_mac: self.allow_sha1_mac,
        })
    }
}

/// Only these two are known for certain: other names are the authority's word.
fn filled(text: &str, user: &str, fqdn: &str) -> Result<String, Error> {
    let filled = text.replace("{user}", user).replace("{fqdn}", fqdn);
    match filled.contains(['{', '}']) {
        false => Ok(filled),
        true => Err(Error::Usage(format!(
            "`{text}` in the profile has a gap that cannot be filled; there are {{user}} and {{fqdn}}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_gaps_and_places_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let put = |text: &str| fs::write(folder.path().join("work.toml"), text).unwrap();
        let est = "protocol = \"est\"\nurl = \"https://ca.example.org\"\n";
        put(&format!(
            "{est}subject = \"CN={{user}}\"\nsan = [\"dns:{{fqdn}}\"]\n"
        ));
        let profile = Profile::find("work", &folders).unwrap();
        let order = profile.order("work", "ada", "a.example.org").unwrap();
        assert_eq!(order.subject, "CN=ada");
        assert_eq!(order.san, ["dns:a.example.org"]);
        assert_eq!(
            order.est_url("cacerts"),
            "https://ca.example.org/.well-known/est/cacerts"
        );

        put(&format!("{est}subject = \"CN={{upn}}\"\n"));
        let profile = Profile::find("work", &folders).unwrap();
        assert!(profile.order("work", "ada", "").is_err());
        for bad in [
            &format!("{est}sbject = \"CN=x\"\n"),
            "protocol = \"est\"\nurl = \"http://ca.example.org\"\n",
            "protocol = \"scep\"\nurl = \"https://ca.example.org\"\n",
            "",
        ] {
            put(bad);
            assert!(Profile::find("work", &folders).is_err(), "{bad}");
        }
        for name in ["", "../work", ".work", "other"] {
            assert!(Profile::find(name, &folders).is_err(), "{name}");
        }
    }
}
