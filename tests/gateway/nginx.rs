//! A gateway as sandbox platforms have them, made of nginx.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The header without which the gateway lets nobody in.
pub(crate) const HEADER: &str = "X-Gateway-Token";
/// Its value.
pub(crate) const HEADER_VALUE: &str = "let-me-in";

/// The nginx of this machine, or a loud word that there is none.
pub(crate) fn find() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join("nginx")).find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("WSFLEET_REQUIRE_NGINX").is_none(), "nginx is required and not installed");
        eprintln!("NOT RUN: the gateway test needs nginx, and there is none on this machine. Install nginx to run it.");
    }
    found
}

/// The path under which a workspace is served.
pub(crate) fn route(id: usize) -> String {
    format!("/s/ws-{id}")
}

/// A running nginx. It is ended when this is dropped.
pub(crate) struct Gateway {
    folder: TempDir,
    port: u16,
    nginx: Child,
}

impl Gateway {
    /// Starts a gateway that serves so many workspaces, all from one agent server.
    pub(crate) fn start(nginx: &Path, agent: &str, workspaces: usize) -> Self {
        let folder = TempDir::new().unwrap();
        make_certificates(folder.path());
        fs::create_dir(folder.path().join("routes")).unwrap();
        for id in 0..workspaces {
            fs::write(folder.path().join("routes").join(format!("ws-{id}")), "").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, configuration_text(folder.path(), port, agent.trim_start_matches("http://")))
            .unwrap();
        let nginx = Command::new(nginx)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { folder, port, nginx };
        gateway.wait_until_it_listens();
        gateway
    }

    fn wait_until_it_listens(&self) {
        let give_up = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < give_up, "nginx does not listen");
            std::thread::yield_now();
        }
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// The certificate of the authority that vouches for the gateway.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A folder that is removed with the gateway.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes a workspace away, as a platform does whose sandbox has ended.
    pub(crate) fn delete_route(&self, id: usize) {
        fs::remove_file(self.folder.path().join("routes").join(format!("ws-{id}"))).unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The master ends its workers when it is asked to, but not when it is killed.
        let _ = Command::new("kill").arg(self.nginx.id().to_string()).status();
        let _ = self.nginx.wait();
    }
}

fn make_certificates(folder: &Path) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

fn configuration_text(folder: &Path, port: u16, agent: &str) -> String {
    let folder = folder.display();
    format!(
        r#"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
worker_rlimit_nofile 16384;
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream agent {{ server {agent}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    if ($http_x_gateway_token != "{HEADER_VALUE}") {{ return 403; }}
    location ~ ^/s/(?<id>ws-[0-9]+)(?<rest>/.*)$ {{
      if (!-f {folder}/routes/$id) {{ return 404; }}
      proxy_pass http://agent$rest$is_args$args;
      proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"#
    )
}
