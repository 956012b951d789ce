//! Certificates and requests, with OpenSSL as a second opinion.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::lines::{data, fixture, json, openssl, place, run, says, tries};
use crate::support::Run;

#[test]
fn certificates_are_stored_with_their_keys_only() {
    let place = place();
    for file in ["rsa2048.pkcs8.pem", "p256.pkcs8.pem"] {
        let name = file.split('.').next().unwrap();
        says(
            &place,
            &format!("key import work %{file} --label {name} --pin-file @pin"),
            0,
        );
    }
    let none = run(&place, "cert list work");
    assert_eq!(
        (none.out.as_str(), none.notes().as_str()),
        ("", "no certificates\n")
    );
    says(&place, "cert export work p256", 7);
    says(&place, "cert delete work p256 --yes --pin-file @pin", 7);

    // Another key's, a wrong file, a wrong PIN: nothing is stored, and only the PIN costs a try.
    let import = |rest: &str, code| {
        says(
            &place,
            &format!("cert import work {rest} --pin-file @pin"),
            code,
        )
    };
    let mut said = import("%p384.cert.pem", 2);
    said += &import("%ca.cert.pem", 2);
    said += &import("%rsa2048.cert.pem --key p256", 2);
    said += &import("%p256.pkcs8.pem", 2);
    import("%p256.cert.pem --key 85", 7);
    says(
        &place,
        "cert import work %p256.cert.pem --pin-file @wrong",
        4,
    );
    assert_eq!(
        json(&place, "cert list work --json"),
        Value::Array(Vec::new())
    );

    // The key is found by its public half, also among the certificates of a chain.
    let chain =
        ["ca.cert.pem", "p256.cert.pem"].map(|name| fs::read_to_string(fixture(name)).unwrap());
    place.file("chain", &chain.concat());
    said += &import("@chain", 0);
    said += &import("%rsa2048.cert.der --key rsa2048", 0);
    said += &import("%rsa2048.cert.pem", 0);
    assert_snapshot!("cert_import", said);

    let list = json(&place, "cert list work --json");
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_snapshot!("cert_list_text", stable(&data(&place, "cert list work")));
    // One of them alone.
    assert_eq!(json(&place, "cert show work 81 --json"), list[0]);
    let digits = list[1]["sha256"].as_str().unwrap();
    let shown = json(&place, &format!("cert show work --sha256 {digits} --json"));
    assert_eq!(shown, list[1]);
    let text = data(&place, "cert show work 81");
    assert!(data(&place, "cert list work").starts_with(&text), "{text}");
    assert_eq!(run(&place, "cert show work 82").code, 7);
    assert_eq!(data(&place, "cert export work p256"), chain[1]);
    says(
        &place,
        "cert export work rsa2048 --format der --out @der",
        0,
    );
    assert_eq!(
        fs::read(place.path("der")).unwrap(),
        fs::read(fixture("rsa2048.cert.der")).unwrap()
    );

    says(&place, "cert delete work p256 --pin-file @pin", 2);
    says(&place, "cert delete work p256 --yes --pin-file @pin", 0);
    assert_eq!(
        json(&place, "cert list work --json")
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // A key takes its certificate along.
    says(&place, "key delete work rsa2048 --yes --pin-file @pin", 0);
    assert_eq!(
        json(&place, "cert list work --json"),
        Value::Array(Vec::new())
    );
}

/// Without what differs when the fixtures are made anew.
fn stable(text: &str) -> String {
    text.lines()
        .map(|line| match line.trim_start().split(':').next() {
            Some(word @ ("valid" | "serial" | "SHA-256")) => format!("  {word}: […]\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn certificates_are_replaced_or_kept_as_is_said_and_all_are_listed() {
    let place = place();
    says(&place, "key import work %p256.pkcs8.pem --pin-file @pin", 0);
    let (key, csr) = (fixture("p256.pkcs8.pem"), place.path("csr"));
    let csr = csr.to_str().unwrap();
    openssl(&["req", "-new", "-key", &key, "-subj", "/CN=x", "-out", csr]);
    for (name, days) in [("short", "10"), ("long", "20"), ("longest", "30")] {
        let out = place.path(name);
        let out = out.to_str().unwrap();
        let request = ["x509", "-req", "-in", csr, "-key", &key];
        openssl(&[&request[..], &["-days", days, "-out", out]].concat());
    }
    let list = || match json(&place, "cert list work --json") {
        Value::Array(rows) => rows,
        other => panic!("{other}"),
    };
    let kept = || -> Vec<Value> { list().iter().map(|row| row["kept"].clone()).collect() };
    let import = |name: &str, options: &str| {
        let order = format!("cert import work @{name} {options}--pin-file @pin");
        let said = says(&place, &order, 0);
        // Whatever is kept, programs see the last one.
        let last = data(&place, "cert export work 9E");
        assert_eq!(last, fs::read_to_string(place.path(name)).unwrap());
        said
    };
    let fingerprint = |of: usize| list()[of]["sha256"].as_str().unwrap().to_owned();
    import("longest", "");
    assert!(import("long", "").contains("replacing the previous one"));
    assert_eq!(kept(), [false]);
    let long = fingerprint(0);
    assert!(import("short", "--keep ").contains("the previous one is kept beside it"));
    let short = fingerprint(0);
    import("longest", "--keep ");
    assert_eq!(kept(), [false, true, true]);
    // What is kept already is not kept twice.
    assert!(import("long", "--keep ").contains("the previous one is kept beside it"));
    import("long", "--keep ");
    let said = import("short", "");
    assert!(
        said.contains("the previous one is kept beside it"),
        "{said}"
    );
    import("long", "");
    assert_eq!(kept(), [false, true, true]);
    assert_eq!(fingerprint(0), long);
    let text = data(&place, "cert list work");
    assert!(text.starts_with("key 9E\n"), "{text}");
    assert_eq!(text.matches("\nkept beside key 9E\n").count(), 2, "{text}");

    let short = &short[..8];
    let exported = data(&place, &format!("cert export work --sha256 {short}"));
    assert_eq!(exported, fs::read_to_string(place.path("short")).unwrap());
    for (selector, code) in [
        ("", 2),
        ("--sha256 1234567 ", 2),
        ("--sha256 12345678 ", 7),
        ("9E --sha256 12345678 ", 2),
    ] {
        let order = format!("cert delete work {selector}--yes --pin-file @pin");
        says(&place, &order, code);
    }
    let order = format!("cert delete work --sha256 {short} --yes");
    says(&place, &format!("{order} --pin-file @wrong"), 4);
    assert_eq!(list().len(), 3);
    let said = says(&place, &format!("{order} --pin-file @pin"), 0);
    assert!(said.contains("kept certificate of CN=x deleted"), "{said}");
    assert_eq!(kept(), [false, true]);

    // A kept one takes the place of the one with the key.
    let said = says(&place, "cert delete work 9E --yes --pin-file @pin", 0);
    assert!(said.contains("is now the one with key 9E"), "{said}");
    assert_eq!(kept(), [false]);
    assert_ne!(fingerprint(0), long);
    let sign = "cert self-sign work --key 9E --subject CN=y --keep --pin-file @pin";
    assert!(says(&place, sign, 0).contains("the previous one is kept beside it"));
    assert_eq!(kept(), [false, true]);
    assert_eq!(list()[0]["subject"], "CN=y");
    for _ in 0..2 {
        says(&place, "cert delete work 9E --yes --pin-file @pin", 0);
    }
    assert!(list().is_empty());
}

#[test]
fn expired_certificate_is_marked() {
    let place = place();
    says(&place, "key import work %p256.pkcs8.pem --pin-file @pin", 0);
    let (key, out) = (fixture("p256.pkcs8.pem"), place.path("old"));
    let csr = place.path("csr");
    let (csr, out) = (csr.to_str().unwrap(), out.to_str().unwrap());
    openssl(&[
        "req",
        "-new",
        "-key",
        &key,
        "-subj",
        "/CN=Old\x1b[31m",
        "-out",
        csr,
    ]);
    openssl(&[
        "x509", "-req", "-in", csr, "-key", &key, "-days", "-1", "-out", out,
    ]);
    let said = says(&place, "cert import work @old --pin-file @pin", 0);
    assert!(
        said.contains("warning: the certificate is expired"),
        "{said}"
    );
    let text = data(&place, "cert list work");
    assert!(
        text.contains(", expired") && !text.contains('\x1b'),
        "{text:?}"
    );
    assert!(data(&place, "key list work").contains("(expired)"));
    assert_eq!(
        json(&place, "cert list work --json")[0]["validity"],
        "expired"
    );
}

#[test]
fn requests_are_as_openssl_wants_them() {
    let place = place();
    place.file("openssl.cnf", "");
    for (algorithm, more) in [
        ("rsa-2048", ""),
        ("rsa-2048", " --pin-every-time"),
        ("rsa-3072", " --sign-only"),
        ("p-256", ""),
        ("p-384", ""),
    ] {
        let generate = format!("key generate work --pin-file @pin --algorithm {algorithm}{more}");
        let key = data(&place, &generate);
        let create = format!(
            "csr create work --key {} --subject CN=Ada,O=Example,C=GB --san email:ada@example.org \
             --san upn:ada@EXAMPLE.ORG --san dns:ada.example.org --eku clientAuth --eku smartcardLogon \
             --key-usage digitalSignature --pin-file @pin",
            key.trim()
        );
        let pem = data(&place, &create);
        assert_eq!(data(&place, &format!("{create} --out @csr")), "");
        assert!(
            pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"),
            "{pem}"
        );
        let csr = place.path("csr");
        let text = openssl(&[
            "req",
            "-verify",
            "-noout",
            "-text",
            "-in",
            csr.to_str().unwrap(),
        ]);
        for part in [
            "verify OK",
            "Subject: C = GB, O = Example, CN = Ada",
            "email:ada@example.org",
            "DNS:ada.example.org",
            "UPN",
            "TLS Web Client Authentication",
            "Digital Signature",
        ] {
            assert!(text.contains(part), "{algorithm}: no {part} in {text}");
        }
        data(&place, &format!("{create} --format der --out @der"));
        let der = place.path("der");
        openssl(&[
            "req",
            "-verify",
            "-inform",
            "DER",
            "-noout",
            "-in",
            der.to_str().unwrap(),
        ]);
    }
}

#[test]
fn requests_without_meaning_cost_no_try() {
    let place = place();
    data(
        &place,
        "key generate work --pin-file @pin --algorithm p-256 --label k",
    );
    let create = |rest: &str, code| {
        let said = says(
            &place,
            &format!("csr create work {rest} --pin-file @pin --out @csr"),
            code,
        );
        assert!(!place.path("csr").exists(), "{rest}");
        said
    };
    create("--key k", 2);
    create("--key k --subject Ada", 2);
    create("--key k --subject CN=", 2);
    create("--key k --subject CN=x --san example.org", 2);
    create("--key k --subject CN=x --eku logon", 2);
    create("--key other --subject CN=x", 7);
    assert_eq!(tries(&place), 5);
    says(
        &place,
        "csr create work --key k --subject CN=x --pin-file @wrong --out @csr",
        4,
    );
    assert!(!place.path("csr").exists());
    says(
        &place,
        "csr create work --key k --subject CN=x --pin-file @pin --out /nonexistent/csr",
        1,
    );
    // A subject is not needed beside another name.
    let mut command = place.command(&["csr", "create", "work", "--key", "k", "--subject", ""]);
    let pin = place.path("pin");
    command.args(["--pin-file", pin.to_str().unwrap()]);
    assert_eq!(Run::of(command.output().unwrap()).code, 2);
    command.args(["--san", "dns:example.org"]);
    assert_eq!(Run::of(command.output().unwrap()).code, 0);
}

#[test]
fn self_signed_certificate_is_stored_and_verifies() {
    let place = place();
    for (algorithm, name) in [("rsa-2048", "one"), ("p-384", "two")] {
        data(
            &place,
            &format!("key generate work --pin-file @pin --algorithm {algorithm} --label {name}"),
        );
        let sign = format!(
            "cert self-sign work --key {name} --subject CN={name} --san email:ada@example.org --eku clientAuth"
        );
        says(&place, &format!("{sign} --pin-file @wrong"), 4);
        assert_eq!(
            json(&place, "key list work --json")[0]["certificate"].is_null(),
            name == "one"
        );
        let said = says(&place, &format!("{sign} --days 30 --pin-file @pin"), 0);
        assert!(said.contains("valid until"), "{said}");
        data(&place, &format!("cert export work {name} --out @{name}"));
        let path = place.path(name);
        let path = path.to_str().unwrap();
        openssl(&["verify", "-CAfile", path, "-check_ss_sig", path]);
        openssl(&["x509", "-checkend", "2500000", "-noout", "-in", path]);
        let text = openssl(&["x509", "-noout", "-text", "-in", path]);
        assert!(text.contains("email:ada@example.org"), "{text}");
        // It is not replaced without a word.
        says(&place, &format!("{sign} --pin-file @pin"), 2);
        says(&place, &format!("{sign} --pin-file @pin --yes"), 0);
        assert_ne!(
            data(&place, &format!("cert export work {name}")),
            fs::read_to_string(path).unwrap()
        );
    }
    for wrong in ["--days 0", "--days x", "--days 99999"] {
        says(
            &place,
            &format!("cert self-sign work --key one --subject CN=x --yes {wrong}"),
            2,
        );
    }
    let list = json(&place, "key list work --json");
    assert_eq!(list[0]["certificate"]["subject"], "CN=one");
    assert_eq!(list[0]["certificate"]["validity"], "valid");
}

#[test]
fn certificate_that_is_too_long_costs_no_try() {
    let place = place();
    let (key, out) = (fixture("p256.pkcs8.pem"), place.path("long"));
    let name = format!("nsComment={}", "x".repeat(66_000));
    let out = out.to_str().unwrap();
    openssl(&[
        "req", "-x509", "-new", "-key", &key, "-subj", "/CN=Long", "-addext", &name, "-out", out,
    ]);
    let p12 = place.path("long.p12");
    let p12 = p12.to_str().unwrap();
    openssl(&[
        "pkcs12",
        "-export",
        "-inkey",
        &key,
        "-in",
        out,
        "-passout",
        "pass:sesame",
        "-out",
        p12,
    ]);
    let import = "key import work @long.p12 --passphrase-file @sesame --pin-file @wrong";
    assert!(says(&place, import, 2).contains("a card holds at most 65535"));
    says(&place, "key import work %p256.pkcs8.pem --pin-file @pin", 0);
    says(&place, "cert import work @long --pin-file @wrong", 2);
    assert_eq!(tries(&place), 5);
}

/// A certificate of the fixture's key that begins and ends so many days from now.
fn dated(place: &crate::support::Place, name: &str, key: &str, subject: &str, days: [i32; 2]) {
    let at = |days: i32| {
        let output = std::process::Command::new("date")
            .args(["-u", "-d", &format!("{days} days"), "+%Y%m%d%H%M%SZ"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let folder = place.path("ca");
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(file("index"), "").unwrap();
    fs::write(
        file("conf"),
        format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={}\nnew_certs_dir={}\nrand_serial=yes\n\
             default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n",
            file("index"),
            file("")
        ),
    )
    .unwrap();
    let (key, out) = (fixture(key), place.path(name));
    openssl(&[
        "req",
        "-new",
        "-key",
        &key,
        "-subj",
        subject,
        "-out",
        &file("csr"),
    ]);
    openssl(&[
        "ca",
        "-batch",
        "-selfsign",
        "-notext",
        "-config",
        &file("conf"),
        "-keyfile",
        &key,
        "-in",
        &file("csr"),
        "-startdate",
        &at(days[0]),
        "-enddate",
        &at(days[1]),
        "-out",
        out.to_str().unwrap(),
    ]);
}

#[test]
fn of_several_certificates_the_newest_valid_one_is_stored() {
    let place = place();
    let key = "p256.pkcs8.pem";
    dated(&place, "old", key, "/CN=old", [-900, -1]);
    dated(&place, "next", key, "/CN=next", [10, 900]);
    dated(&place, "short", key, "/CN=short", [-5, 5]);
    dated(&place, "long", key, "/CN=long", [-9, 90]);
    let bundle = |names: &[&str]| {
        let pem = names.iter().map(|name| match name.strip_prefix('%') {
            Some(name) => fs::read_to_string(fixture(name)).unwrap(),
            None => fs::read_to_string(place.path(name)).unwrap(),
        });
        place.file("bundle", &pem.collect::<String>());
    };
    says(&place, "key import work %p256.pkcs8.pem --pin-file @pin", 0);
    let stored = || json(&place, "cert list work --json")[0]["subject"].clone();
    let import = || says(&place, "cert import work @bundle --pin-file @pin", 0);

    bundle(&["old", "short", "%ca.cert.pem", "long", "next"]);
    let said = import();
    assert_eq!(stored(), "CN=long", "{said}");
    for part in [
        "certificate of CN=old not stored: expired since 20",
        "certificate of CN=next not stored: not valid before 20",
        "certificate of CN=short not stored: ends earlier, 20",
        "certificate of CN=Test CA,O=Cardea,C=DE not stored: for another key",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(!said.contains("CN=long not stored"), "{said}");
    // One that is not valid yet will be; an expired one will not.
    bundle(&["old", "next"]);
    let said = import();
    assert!(
        said.contains("warning: the certificate is not yet valid"),
        "{said}"
    );
    assert_eq!(stored(), "CN=next");

    // PKCS#7, and beside the key in PEM and PKCS#12.
    bundle(&["old", "long"]);
    let (from, to) = (place.path("bundle"), place.path("p7b"));
    openssl(&[
        "crl2pkcs7",
        "-nocrl",
        "-certfile",
        from.to_str().unwrap(),
        "-outform",
        "DER",
        "-out",
        to.to_str().unwrap(),
    ]);
    says(&place, "cert import work @p7b --pin-file @pin", 0);
    assert_eq!(stored(), "CN=long");
    says(&place, "key delete work p256 --yes --pin-file @pin", 7);
    let reimport = |file: &str| {
        let key = json(&place, "key list work --json")[0]["reference"].clone();
        let key = key.as_str().unwrap();
        says(
            &place,
            &format!("key delete work {key} --yes --pin-file @pin"),
            0,
        );
        says(
            &place,
            &format!("key import work @{file} --pin-file @pin --passphrase-file @sesame"),
            0,
        )
    };
    bundle(&["old", "long", "%p256.pkcs8.pem"]);
    let said = reimport("bundle");
    assert!(
        said.contains("CN=old") && said.contains("expired since"),
        "{said}"
    );
    assert_eq!(stored(), "CN=long");
    let p12 = place.path("p12");
    openssl(&[
        "pkcs12",
        "-export",
        "-in",
        from.to_str().unwrap(),
        "-passout",
        "pass:sesame",
        "-out",
        p12.to_str().unwrap(),
    ]);
    let said = reimport("p12");
    assert!(
        said.contains("CN=old") && said.contains("expired since"),
        "{said}"
    );
    assert_eq!(stored(), "CN=long");
}

#[test]
fn secret_files_of_windows_are_read() {
    let place = place();
    let pin = fs::read_to_string(place.path("pin")).unwrap();
    place.file("crlf", &format!("{}\r\n", pin.trim_end()));
    says(&place, "pin verify work --pin-file @crlf", 0);
}
