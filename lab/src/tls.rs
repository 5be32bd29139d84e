//! Certificates for a group that speaks TLS: one authority, one good certificate for all nodes, and bad ones to break it
//! with. Made by openssl(1), which comes with the servers.

use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fault::{Fault, configure, run};
use crate::namespace::succeed;
use crate::server::Server;

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    pub(crate) fn make(dir: &Path) -> Result<Certificates> {
        fs::create_dir_all(dir)?;
        let made = Certificates { dir: dir.to_owned() };
        made.authority("ca")?;
        made.signed("good", "ca", "subjectAltName=IP:127.0.0.1,DNS:localhost", &["-days", "30"])?;
        Ok(made)
    }

    /// The authority that every node trusts.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub fn good(&self) -> Pair {
        self.pair("good")
    }

    /// Signed by the authority, and over since yesterday.
    pub fn expired(&self) -> Result<Pair> {
        let over = ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"];
        let name = "subjectAltName=IP:127.0.0.1";
        // `x509 -not_after` came with openssl 3.4; `-days -1` is what older ones have.
        self.signed("expired", "ca", name, &over).or_else(|_| self.signed("expired", "ca", name, &["-days", "-1"]))?;
        Ok(self.pair("expired"))
    }

    /// Signed by somebody that no node knows.
    pub fn untrusted(&self) -> Result<Pair> {
        self.authority("stranger")?;
        self.signed("untrusted", "stranger", "subjectAltName=IP:127.0.0.1", &["-days", "30"])?;
        Ok(self.pair("untrusted"))
    }

    /// In order, but for another host.
    pub fn for_another_name(&self) -> Result<Pair> {
        self.signed("elsewhere", "ca", "subjectAltName=DNS:elsewhere.example", &["-days", "30"])?;
        Ok(self.pair("elsewhere"))
    }

    /// The server shows another certificate to whom connects from now on.
    pub fn shown_by(&self, server: &Server, pair: &Pair) -> Result<Fault> {
        let set = |server: &Server, pair: &Pair| {
            let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
            run(server, &["CONFIG", "SET", "tls-cert-file", &cert, "tls-key-file", &key])
        };
        set(server, pair)?;
        let (shown, good) = (server.clone(), self.good());
        Ok(Fault::new(format!("another certificate of {}", server.address()), move || set(&shown, &good)))
    }

    /// The replica shows another certificate to its primary, which asks for one.
    pub fn shown_to(&self, primary: &Server, replica: &Server, pair: &Pair) -> Result<Fault> {
        let set = |replica: &Server, cert: &str, key: &str| {
            run(replica, &["CONFIG", "SET", "tls-client-cert-file", cert, "tls-client-key-file", key])
        };
        let asked = configure(primary, &[("tls-auth-clients", "yes")])?;
        set(replica, &pair.cert.display().to_string(), &pair.key.display().to_string())?;
        let shown = replica.clone();
        Ok(asked.and(Fault::new(format!("another certificate of {}", replica.address()), move || set(&shown, "", ""))))
    }

    pub(crate) fn conf_lines(&self) -> Vec<String> {
        let good = self.good();
        vec![
            format!("tls-ca-cert-file {}", self.ca().display()),
            format!("tls-cert-file {}", good.cert.display()),
            format!("tls-key-file {}", good.key.display()),
            "tls-auth-clients no".to_owned(),
            "tls-replication yes".to_owned(),
        ]
    }

    fn pair(&self, name: &str) -> Pair {
        Pair { cert: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) }
    }

    fn authority(&self, name: &str) -> Result<()> {
        let Pair { cert, key } = self.pair(name);
        let subject = format!("/CN=lab {name}");
        let args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        succeed(
            Command::new("openssl").args(args).args(["-subj", &subject]).arg("-keyout").arg(key).arg("-out").arg(cert),
        )
    }

    fn signed(&self, name: &str, by: &str, extension: &str, validity: &[&str]) -> Result<()> {
        let (own, signer) = (self.pair(name), self.pair(by));
        let (request, extensions) = (self.dir.join(format!("{name}.csr")), self.dir.join(format!("{name}.ext")));
        fs::write(&extensions, extension)?;
        let ask = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=lab"];
        succeed(Command::new("openssl").args(ask).arg("-keyout").arg(&own.key).arg("-out").arg(&request))?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-CAcreateserial"]).arg("-in").arg(&request).arg("-out").arg(&own.cert);
        sign.arg("-CA")
            .arg(&signer.cert)
            .arg("-CAkey")
            .arg(&signer.key)
            .arg("-extfile")
            .arg(&extensions)
            .args(validity);
        succeed(&mut sign).map_err(|error| Error::other(format!("certificate {name}: {error}")))
    }
}
