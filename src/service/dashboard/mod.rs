//! The page at `/`: one that needs no build and nothing from elsewhere, served out of the program.
//!
//! Its scripts are modules, a noun a file, in `page`. Whatever comes from workspaces is shown as text; the policy that is sent
//! with each file lets nothing run or load but these files, and forbids to make HTML of text.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType, ETAG, IF_NONE_MATCH, REFERRER_POLICY},
    web,
};
use serde::Serialize;

use super::{
    config::Access,
    http::{Authorized, Problem, ProblemKind},
};

/// What the page may do: load these files, talk to this service, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    content: &'static str,
}

macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        &[$(Asset { name: $name, content: include_str!(concat!("page/", $name)) }),+]
    };
}

const INDEX: Asset = Asset { name: "index.html", content: include_str!("page/index.html") };

const ASSETS: &[Asset] = assets![
    "activity.js",
    "api.js",
    "app.js",
    "details.js",
    "fleet.js",
    "grid.js",
    "icon.svg",
    "launch.js",
    "layout.js",
    "output.js",
    "plots.js",
    "progress.js",
    "stream.js",
    "style.css",
    "terminal.js",
    "theme.js",
    "ui.js",
    "work.js",
];

/// Adds the page and what it consists of.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.route("/", web::get().to(index));
    config.route("/dashboard/session", web::get().to(session));
    config.route("/dashboard/{name}", web::get().to(asset));
}

async fn index(request: HttpRequest) -> HttpResponse {
    INDEX.answer(&request)
}

async fn asset(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let found = ASSETS.iter().find(|asset| asset.name == *name);
    let missing = || Problem::new(ProblemKind::NotFound, "the dashboard has no such file");
    found.map(|asset| asset.answer(&request)).ok_or_else(missing)
}

/// Who looks at the page, and what they may do.
#[derive(Serialize)]
struct Session {
    caller: String,
    access: &'static str,
    version: &'static str,
}

async fn session(caller: Authorized) -> HttpResponse {
    let access = match caller.access {
        Access::ReadOnly => "read_only",
        Access::Full => "full",
    };
    let session = Session { caller: caller.caller, access, version: env!("CARGO_PKG_VERSION") };
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(session)
}

impl Asset {
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let tag = self.tag();
        let is_known = request.headers().get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        answer
            .insert_header((CONTENT_SECURITY_POLICY, POLICY))
            .insert_header(("x-content-type-options", "nosniff"))
            .insert_header((REFERRER_POLICY, "no-referrer"))
            // Another version of the program has other files under the same names.
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header((ETAG, tag));
        if is_known {
            return answer.finish();
        }
        answer.content_type(self.content_type()).body(self.content)
    }

    /// A name for this content.
    fn tag(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.content.as_bytes());
        let hex: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    }

    fn content_type(&self) -> ContentType {
        let kind = match self.name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => return ContentType::html(),
        };
        // They are media types.
        kind.parse().map_or_else(|_| ContentType::plaintext(), ContentType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_file_asks_for_is_there() {
        let all = ASSETS.iter().chain([&INDEX]);
        for asset in all {
            let imports = asset.content.match_indices(" from \"./").map(|(at, text)| &asset.content[at + text.len()..]);
            let links =
                asset.content.match_indices("=\"/dashboard/").map(|(at, text)| &asset.content[at + text.len()..]);
            for name in imports.chain(links).filter_map(|rest| rest.split('"').next()) {
                assert!(ASSETS.iter().any(|asset| asset.name == name), "{} asks for {name}", asset.name);
            }
        }
    }

    #[test]
    fn the_page_has_neither_scripts_nor_styles_nor_handlers_of_its_own() {
        let page = INDEX.content;
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"/dashboard/").count());
        assert!(
            !page.contains("<style")
                && !page.contains("style=")
                && ![" onclick=", " onload=", " onerror=", " onchange=", " oninput=", " onsubmit="]
                    .iter()
                    .any(|handler| page.contains(handler)),
            "{page}"
        );
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!asset.content.contains(forbidden), "{}: {forbidden}", asset.name);
            }
        }
    }
}
