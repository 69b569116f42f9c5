//! How long the pieces take that are done for each command, each event or each workspace, and what each allocates.
//!
//! ```console
//! $ cargo bench --features hot-paths --bench micro              # all of them
//! $ cargo bench --features hot-paths --bench micro -- page      # those whose name has this text in it
//! ```

use divan::{AllocProfiler, Bencher};
use workspace_fleet::hot_paths::{HOT_PATHS, HotPath};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A path, by its name.
struct Named(&'static HotPath);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

#[divan::bench(args = HOT_PATHS.iter().map(Named))]
fn hot_path(bencher: Bencher<'_, '_>, path: &Named) {
    let mut walk = (path.0.prepare)();
    bencher.bench_local(&mut walk);
}
