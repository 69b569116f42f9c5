use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::support::{Agent, KEY, Reply, encoded, form, send, send_bytes, until};

async fn upload(agent: &Agent, path: &Path, content: &[u8]) -> Reply {
    let (kind, body) = form(content);
    let request = agent.post(&format!("/api/file/upload?path={}", encoded(path)));
    send_bytes(request.insert_header(("Content-Type", kind)), body).await
}

fn download(agent: &Agent, path: &Path) -> awc::ClientRequest {
    agent.get(&format!("/api/file/download?path={}", encoded(path)))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[actix_rt::test]
async fn files_of_any_name_and_size_come_back_as_they_were() {
    let agent = Agent::start();
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|i| i.to_le_bytes()).collect();
    for (name, content) in [
        ("plain", &b"x"[..]),
        ("deep/er/a b", b""),
        ("ünï \"q\" 'p' \\ %41+&#?.txt", b"--B\r\nnot the end"),
        ("new\nline", b"\0\xff"),
        ("large", &large),
    ] {
        let path = agent.path(name);
        let reply = upload(&agent, &path, content).await;
        assert_eq!((reply.status, &reply.json()["file_size"]), (200, &content.len().into()), "{name}");
        assert!(std::fs::read(&path).unwrap() == content, "{name}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        let reply = send(download(&agent, &path)).await;
        assert!(reply.bytes == content, "{name}");
        assert_eq!(reply.header("content-length").unwrap(), content.len().to_string());
        assert!(reply.header("etag").is_some() && reply.header("last-modified").is_some());
    }
    assert!(!names(agent.root.path()).iter().any(|name| name.starts_with('.')), "a temporary file is left");
}

#[actix_rt::test]
async fn what_is_replaced_keeps_its_mode_and_a_link_its_target() {
    let agent = Agent::start();
    let (script, link) = (agent.path("script"), agent.path("link"));
    std::fs::write(&script, "old").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("script", &link).unwrap();
    assert_eq!(upload(&agent, &link, b"new").await.status, 200);
    assert!(link.is_symlink() && std::fs::read(&script).unwrap() == b"new");
    assert_eq!(script.metadata().unwrap().permissions().mode() & 0o777, 0o750);
}

#[actix_rt::test]
async fn uploads_to_wrong_places_are_refused_by_name() {
    let agent = Agent::start();
    std::fs::create_dir(agent.path("dir")).unwrap();
    std::fs::write(agent.path("file"), "").unwrap();
    for (path, status, text) in [
        ("relative".into(), 400, "Path must be absolute"),
        (agent.path("dir"), 400, "Path is a directory"),
        (agent.path("file/below"), 400, "A parent of the path is not a directory"),
    ] {
        // Large enough that the answer would be lost if it came before the body was read.
        let reply = upload(&agent, &path, &vec![0; 4 << 20]).await;
        assert_eq!((reply.status, reply.json()["detail"].as_str().unwrap()), (status, text));
    }
    let long = upload(&agent, &agent.path(&"n".repeat(300)), b"x").await;
    assert_eq!(long.status, 500);
    assert!(long.json()["exception"].as_str().unwrap().contains("[Errno 36] File name too long"));
    let request = agent.post(&format!("/api/file/upload?path={}", encoded(agent.path("f"))));
    assert_eq!(send(request).await.json()["detail"][0]["loc"], serde_json::json!(["body", "file"]));
}

#[actix_rt::test]
async fn a_slow_sender_of_a_refused_upload_gets_the_answer() {
    let agent = Agent::start();
    let mut socket = TcpStream::connect(agent.handle.addr()).unwrap();
    let head = format!(
        "POST /api/file/upload?path=relative HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: {KEY}\r\nConnection: close\r\n\
         Content-Length: 3000000\r\nContent-Type: multipart/form-data; boundary=B\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    for _ in 0..3 {
        // Slower than any time for which an answered connection would still be read.
        std::thread::sleep(std::time::Duration::from_millis(600));
        socket.write_all(&[b'x'; 1_000_000]).unwrap();
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("400 Bad Request") && answer.contains("Path must be absolute"), "{answer}");
}

#[actix_rt::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let agent = Agent::start();
    let path = agent.path("cut");
    std::fs::write(&path, "before").unwrap();
    let mut socket = TcpStream::connect(agent.handle.addr()).unwrap();
    let head = format!(
        "POST /api/file/upload?path={} HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: {KEY}\r\nContent-Length: 9000000\r\n\
         Content-Type: multipart/form-data; boundary=B\r\n\r\n--B\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n",
        encoded(&path)
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&vec![b'x'; 1 << 20]).unwrap();
    until(async || Some(()).filter(|()| names(agent.root.path()).len() == 2)).await;
    drop(socket);
    until(async || Some(()).filter(|()| names(agent.root.path()).len() == 1)).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
}

#[actix_rt::test]
async fn concurrent_uploads_are_never_torn() {
    let agent = Agent::start();
    let path = agent.path("contested");
    std::fs::write(&path, "").unwrap();
    let contents: Vec<_> = (b'a'..=b'h').map(|letter| vec![letter; 700_000 + usize::from(letter)]).collect();
    let uploads = futures::future::join_all(contents.iter().map(|content| upload(&agent, &path, content)));
    let reads = async {
        for _ in 0..40 {
            let seen = send(download(&agent, &path)).await.bytes;
            assert!(seen.is_empty() || contents.iter().any(|content| seen == content), "torn: {} bytes", seen.len());
        }
    };
    let (uploads, ()) = futures::join!(uploads, reads);
    assert!(uploads.iter().all(|reply| reply.status == 200));
    let last = std::fs::read(&path).unwrap();
    assert!(contents.contains(&last));
}

#[actix_rt::test]
async fn parts_of_a_file_are_sent_when_asked_for() {
    let agent = Agent::start();
    let (path, empty) = (agent.path("f"), agent.path("empty"));
    std::fs::write(&path, "hello world").unwrap();
    std::fs::write(&empty, "").unwrap();
    let ranged = |path, range: &'static str| send(download(&agent, path).insert_header(("Range", range)));
    let part = ranged(&path, "bytes=-5").await;
    assert_eq!(
        (part.status, &part.bytes[..], part.header("content-range")),
        (206, &b"world"[..], Some("bytes 6-10/11"))
    );
    let first = ranged(&path, "bytes=0-0").await;
    assert_eq!((first.status, &first.bytes[..], first.header("content-range")), (206, &b"h"[..], Some("bytes 0-0/11")));
    let parts = ranged(&path, "bytes=0-1,3-4").await;
    let text = String::from_utf8_lossy(&parts.bytes).into_owned();
    assert!(
        parts.status == 206 && text.contains("bytes 0-1/11\r\n\r\nhe\r\n") && text.contains("\r\n\r\nlo\r\n"),
        "{text}"
    );
    let beyond = ranged(&empty, "bytes=0-0").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */0")));
    let etag = part.header("etag").unwrap().to_owned();
    for (seen, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let request = download(&agent, &path).insert_header(("Range", "bytes=0-0")).insert_header(("If-Range", seen));
        assert_eq!(send(request).await.status, status);
    }
}

#[actix_rt::test]
async fn what_is_no_file_is_not_downloaded() {
    let agent = Agent::start();
    for (path, status, detail) in [
        (agent.path("none"), 404, "File not found"),
        (agent.path(""), 400, "Path is not a file"),
        ("/dev/null".into(), 400, "Path is not a file"),
        ("x".into(), 400, "Path must be absolute"),
    ] {
        let reply = send(download(&agent, &path)).await;
        assert_eq!((reply.status, reply.json()["detail"].as_str().unwrap()), (status, detail));
    }
}

#[actix_rt::test]
async fn directories_are_made_and_listed() {
    let agent = Agent::start();
    for name in ["b", "A", ".h", "c/d"] {
        let path = format!("/api/file/create_directory?path={}", encoded(agent.path(name)));
        assert_eq!(send(agent.post(&path)).await.json()["success"], true);
    }
    let search = format!("/api/file/search_subdirs?path={}", encoded(agent.path("")));
    let page = agent.get_json(&format!("{search}&limit=2")).await;
    let names = |page: &serde_json::Value| {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names(&page), &page["next_page_id"]), (vec!["A".into(), "b".into()], &"c".into()));
    assert_eq!(names(&agent.get_json(&format!("{search}&page_id=c&include_hidden=1")).await), ["c"]);
    assert!(agent.get_json("/api/file/home").await["home"].is_string());
}

#[actix_rt::test]
async fn an_archive_holds_files_but_no_credentials() {
    let agent = Agent::start();
    let root = agent.path("w");
    for (name, content) in [
        ("a b.txt", "x"),
        ("target/big", "x"),
        ("x.pyc", "x"),
        (".git/config", "token"),
        (".git/HEAD", "ref"),
        ("skip.bin", "x"),
    ] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let list = async |query: &str| {
        let url = format!("/api/file/archive?path={}&format=tar.gz{query}", encoded(&root));
        let reply = send(agent.get(&url)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&reply.bytes[..]));
        let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    assert_eq!(list("&exclude=*.bin").await, ["w/", "w/a b.txt", "w/archive_manifest.json"]);
    let full = list("&use_default_excludes=false").await;
    assert!(full.contains(&"w/.git/HEAD".to_owned()) && !full.contains(&"w/.git/config".to_owned()), "{full:?}");
}

#[actix_rt::test]
async fn an_upload_to_a_pipe_is_refused_and_one_to_a_device_is_not() {
    let agent = Agent::start();
    let pipe = agent.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let upload = async |path: &std::path::Path| {
        let (kind, body) = form(b"x");
        let request = agent.post(&format!("/api/file/upload?path={}", encoded(path)));
        send_bytes(request.insert_header(("Content-Type", kind)), body).await
    };
    let refused = upload(&pipe).await;
    assert_eq!((refused.status, &refused.json()["detail"]), (400, &serde_json::json!("Path is not a regular file")));
    assert_eq!(upload("/dev/null".as_ref()).await.status, 200);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    let full = upload("/dev/full".as_ref()).await;
    assert_eq!(full.json()["exception"], "500: Failed to upload file: [Errno 28] No space left on device");
    let nowhere = upload("/proc/zz".as_ref()).await;
    let expected = "500: Failed to upload file: [Errno 2] No such file or directory: '/proc/zz'";
    assert_eq!((nowhere.status, &nowhere.json()["exception"]), (500, &serde_json::json!(expected)));
}
