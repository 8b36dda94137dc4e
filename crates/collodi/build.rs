//! Compiles the built web application in. Without one (`make ui` builds it) a page that says so takes its place.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let built = here.join("../../ui/dist");
    println!("cargo::rerun-if-changed={}", built.display());
    println!("cargo::rerun-if-changed=page.html");
    let mut files = Vec::new();
    if built.join("index.html").is_file() {
        collect(&built, &built, &mut files)?;
    } else {
        files.push(("index.html".to_owned(), here.join("page.html")));
    }
    files.sort();
    let mut table = String::from("pub(crate) const FILES: &[collodi_api::ui::Embedded] = &[\n");
    for (at, (name, path)) in files.iter().enumerate() {
        let plain = std::fs::read(path)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&plain)?;
        let gzip = encoder.finish()?;
        let packed = out.join(format!("{at}.gz"));
        std::fs::write(&packed, if gzip.len() < plain.len() { &gzip[..] } else { &[] })?;
        writeln!(
            table,
            "    collodi_api::ui::Embedded {{ name: {name:?}, plain: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            path.canonicalize()?.to_string_lossy(),
            packed.to_string_lossy()
        )?;
    }
    table.push_str("];\n");
    std::fs::write(out.join("ui.rs"), table)?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            files.push((name, path));
        }
    }
    Ok(())
}
