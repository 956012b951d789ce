//! A web site that asks for the certificate of a card, and a user's computer, in one namespace.
//!
//! What: nginx as Debian configures it, on the usual ports, under the name [`NAME`]; a [`Workplace`] whose module,
//! socket and programs are where an installation puts them; and the pages of `docs/uses/`, whose commands are run
//! as they stand there. What not: a browser ([`crate::browser`]).

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::namespace::Namespace;
use crate::process::{self, Outcome, Running};
use crate::rig::bin_dir;
use crate::workplace::{Workplace, module};

/// Name of the site.
pub const NAME: &str = "www.example.org";

/// The display of the user's computer.
pub const DISPLAY: &str = ":7";

/// Where the tests have the pages.
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/uses");

/// The site and the computer.
pub struct Site {
    /// The web server.
    nginx: Running,
    namespace: Namespace,
    /// Without a card at first; commands run in its folder.
    pub workplace: Workplace,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// With nginx that serves nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let workplace = Workplace::new();
        let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        for folder in ["etc", "modules", "libraries", "pkgconfig"] {
            fs::create_dir(workplace.path(folder)).unwrap();
        }
        for (name, template) in [
            (
                "modules/cardea.module",
                include_str!("../../../packaging/cardea.module"),
            ),
            (
                "pkgconfig/cardea-pkcs11.pc",
                include_str!("../../../packaging/cardea-pkcs11.pc"),
            ),
        ] {
            let text = template
                .replace("@libraries@", &libraries)
                .replace("@version@", env!("CARGO_PKG_VERSION"));
            fs::write(workplace.path(name), text).unwrap();
        }
        let script = format!(
            "cd {folder}\n\
             cp -a /etc/. etc\nmount --bind etc /etc\n\
             cp -a {libraries}/pkcs11/. libraries\n: > libraries/libcardea_pkcs11.so\n\
             mount --bind libraries {libraries}/pkcs11\n\
             mount --bind {module} {libraries}/pkcs11/libcardea_pkcs11.so\n\
             mount --bind modules /usr/share/p11-kit/modules\n\
             mkdir -p /tmp/.X11-unix\n\
             for place in /run /tmp/.X11-unix /var/lib/nginx /var/log/nginx; do mount -t tmpfs site $place; done\n\
             chmod 1777 /tmp/.X11-unix\n\
             mkdir /run/cardea\nln -s {socket} /run/cardea/cardea.sock\n\
             rm -f /etc/resolv.conf /etc/nginx/sites-enabled/*\n\
             echo 127.0.0.1 localhost {NAME} > /etc/hosts",
            folder = workplace.text(""),
            module = module(),
            socket = workplace.daemon.socket().display(),
        );
        let namespace = Namespace::new(&workplace.path(""), &script);
        let mut nginx = namespace.command("nginx");
        let mut nginx = Running::start(
            nginx.args(["-g", "daemon off;"]),
            &workplace.path("nginx.log"),
        );
        let mut running = namespace.command("test");
        running.args(["-s", "/run/nginx.pid"]);
        nginx.wait_ready(|_| process::run(&mut running).success);
        Self {
            nginx,
            namespace,
            workplace,
        }
    }

    /// With a card that has a key of that kind, and the server, as the page `tls` tells.
    #[must_use]
    pub fn of_page(algorithm: &str) -> Self {
        let site = Self::new();
        for section in ["A certificate on the card", "The server"] {
            let commands = commands("tls", section).replace("rsa-2048", algorithm);
            site.does(&commands);
        }
        site.wait_for("");
        site
    }

    /// Reads nginx's configuration again, and waits until `https://NAME` with that port (`:8443`) answers.
    pub fn serve(&self, port: &str) {
        self.does("nginx -s reload");
        self.wait_for(port);
    }

    fn wait_for(&self, port: &str) {
        let ask = format!("curl --silent --insecure --output asked https://{NAME}{port}/");
        process::wait_for("an answer of nginx", || self.shell(&ask).success);
    }

    /// A program inside, in the workplace's folder, not yet started.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.namespace.command("env");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .arg(format!("--chdir={}", self.workplace.text("")))
            .arg(program)
            .env("DISPLAY", DISPLAY)
            .env("HOME", self.workplace.path(""))
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", format!("{}:/usr/sbin:{path}", bin_dir().display()))
            .env("PKG_CONFIG_PATH", self.workplace.path("pkgconfig"))
            .env_remove("CARDEA_SOCKET")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// Runs a shell's commands until one fails.
    #[must_use]
    pub fn shell(&self, script: &str) -> Outcome {
        process::run(self.command("sh").args(["-e", "-c", script]))
    }

    /// A shell's commands that must succeed, and what they printed.
    pub fn does(&self, script: &str) -> String {
        let outcome = self.shell(script);
        assert!(outcome.success, "{script}\nfailed:\n{}", outcome.text);
        outcome.text
    }

    /// A shell's commands that must fail, and what they printed.
    pub fn refuses(&self, script: &str) -> String {
        let outcome = self.shell(script);
        assert!(!outcome.success, "{script}\nsucceeded:\n{}", outcome.text);
        outcome.text
    }

    /// Another server on port 8443, which knows another authority for its users.
    pub fn serve_others(&self) {
        self.another_authority();
        self.does(
            "sed -e 's/443 ssl/8443 ssl/' -e 's/cards\\.pem/others.pem/' \
             /etc/nginx/conf.d/cards.conf > /etc/nginx/conf.d/others.conf\n\
             cp other.pem /etc/nginx/tls/others.pem",
        );
        self.serve(":8443");
    }

    /// Another server on port 9443, whose own certificate is of an authority that nobody knows.
    pub fn serve_untrusted(&self) {
        self.another_authority();
        self.does(
            "openssl x509 -req -in server.csr -CA other.pem -CAkey other.key -CAcreateserial -days 1 \
             -extfile server.ext -out /etc/nginx/tls/untrusted.pem\n\
             sed -e 's/443 ssl/9443 ssl/' -e 's/server\\.pem/untrusted.pem/' \
             /etc/nginx/conf.d/cards.conf > /etc/nginx/conf.d/untrusted.conf",
        );
        self.serve(":9443");
    }

    fn another_authority(&self) {
        self.does(
            "test -e other.pem || openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key \
             -out other.pem -days 2 -subj '/CN=Other CA'",
        );
    }

    /// Puts a certificate that has expired in the place of the card's.
    pub fn expire(&self) {
        self.does(
            "cat > expired.cnf <<'END'\n[ca]\ndefault_ca = past\n[past]\ndatabase = expired.index\n\
             new_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\npolicy = any\nx509_extensions = user\n\
             [any]\ncommonName = supplied\n[user]\nkeyUsage = digitalSignature\nextendedKeyUsage = clientAuth\n\
             END\n\
             : > expired.index\n\
             openssl ca -batch -notext -config expired.cnf -cert ca.pem -keyfile ca.key -in alice.csr \
             -startdate 20250101000000Z -enddate 20250201000000Z -out expired.pem\n\
             cardea cert import Alice expired.pem --pin-file pin",
        );
    }

    /// What nginx has written into its access log.
    #[must_use]
    pub fn access_log(&self) -> String {
        self.does("cat /var/log/nginx/access.log")
    }
}

impl Drop for Site {
    /// nginx's workers live on when it is killed.
    fn drop(&mut self) {
        if self.nginx.running() {
            let _ = self.nginx.terminate();
        }
    }
}

/// A page of `docs/uses/`.
#[must_use]
pub fn page(name: &str) -> String {
    let path = PathBuf::from(PAGES).join(name).with_extension("md");
    fs::read_to_string(path).unwrap()
}

/// The shell commands of a section of a page.
#[must_use]
pub fn commands(name: &str, section: &str) -> String {
    let text = page(name);
    let found = text.split("\n## ").find_map(|part| {
        let (title, rest) = part.split_once('\n')?;
        (title == section).then_some(rest)
    });
    let found = found.unwrap_or_else(|| panic!("no section {section} in {name}.md"));
    let blocks = found.split("```sh\n").skip(1);
    let blocks: String = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    assert!(!blocks.is_empty(), "no commands in {section} of {name}.md");
    blocks
}
