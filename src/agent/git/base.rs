use std::path::Path;

use super::command::{Git, GitResult};

/// The tree that holds nothing.
pub(super) const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

impl Git<'_> {
    /// What a name stands for, if it stands for anything.
    pub(super) async fn resolve(&self, repository: &Path, name: &str) -> Option<String> {
        let found = self.text(repository, &["rev-parse", "--verify", name]).await.ok()?;
        Some(found).filter(|found| !found.is_empty())
    }

    /// The commit that a name must stand for. `HEAD` of a branch without commits stands for the empty tree.
    pub(super) async fn required_commit(&self, repository: &Path, name: &str) -> GitResult<String> {
        let found = self.text(repository, &["rev-parse", "--verify", &format!("{name}^{{commit}}")]).await;
        if name == "HEAD" && found.is_err() { Ok(EMPTY_TREE.to_owned()) } else { found }
    }

    async fn has_commits(&self, repository: &Path) -> bool {
        self.text(repository, &["rev-list", "--count", "--all"]).await.is_ok_and(|count| count != "0")
    }

    async fn branch(&self, repository: &Path) -> Option<String> {
        let name = self.text(repository, &["rev-parse", "--abbrev-ref", "HEAD"]).await.ok()?;
        Some(name).filter(|name| !name.is_empty() && name != "HEAD")
    }

    async fn has_tracked_changes(&self, repository: &Path) -> bool {
        let status = self.text(repository, &["status", "--porcelain", "--untracked-files=no"]).await;
        status.map_or(true, |status| !status.is_empty())
    }

    async fn merge_base(&self, repository: &Path, other: &str) -> Option<String> {
        let found = self.text(repository, &["merge-base", "HEAD", other]).await.ok()?;
        Some(found).filter(|found| !found.is_empty())
    }

    /// The default branch of the remote: as recorded by the clone, or else as the remote says.
    async fn remote_default_branch(&self, repository: &Path) -> Option<String> {
        if let Ok(recorded) = self.text(repository, &["rev-parse", "--abbrev-ref", "origin/HEAD"]).await
            && let Some(name) = recorded.strip_prefix("origin/").filter(|name| !name.is_empty())
        {
            return Some(name.to_owned());
        }
        self.asked_default_branch(repository).await.filter(|name| name != "(unknown)")
    }

    async fn asked_default_branch(&self, repository: &Path) -> Option<String> {
        // Without a remote there is nobody to ask, and git would take its time to find that out.
        self.text(repository, &["remote", "get-url", "origin"]).await.ok()?;
        let told = self.text(repository, &["remote", "show", "origin"]).await.ok()?;
        let line = told.lines().find(|line| line.contains("HEAD branch:"))?;
        Some(line.rsplit(':').next()?.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// The state that a workspace is compared with when changes are shown: what was asked for, or what shows the work done
    /// here, pushed or not.
    pub(super) async fn display_base(&self, repository: &Path, asked: Option<&str>) -> GitResult<String> {
        if let Some(asked) = asked {
            return self.required_commit(repository, asked).await;
        }
        if !self.has_commits(repository).await {
            return Ok(EMPTY_TREE.to_owned());
        }
        let head = self.resolve(repository, "HEAD").await;
        let branch = self.branch(repository).await;
        if let Some(branch) = &branch
            && let Some(upstream) = self.resolve(repository, &format!("origin/{branch}")).await
            && (Some(&upstream) != head.as_ref() || self.has_tracked_changes(repository).await)
        {
            return Ok(upstream);
        }
        let found = match self.remote_default_branch(repository).await {
            Some(default) => self.fork_point(repository, &default).await,
            None => self.local_fork_point(repository, branch.as_deref()).await,
        };
        Ok(found.or(head).unwrap_or_else(|| EMPTY_TREE.to_owned()))
    }

    async fn fork_point(&self, repository: &Path, default: &str) -> Option<String> {
        let remote = format!("origin/{default}");
        match self.merge_base(repository, &remote).await {
            Some(base) => Some(base),
            None => self.resolve(repository, &remote).await,
        }
    }

    /// Where a branch left the local main branch, if that has not moved on.
    async fn local_fork_point(&self, repository: &Path, branch: Option<&str>) -> Option<String> {
        for default in ["main", "master"] {
            let Some(tip) = self.resolve(repository, default).await else { continue };
            if Some(default) == branch {
                return None;
            }
            return self.merge_base(repository, default).await.filter(|base| *base == tip);
        }
        None
    }

    /// The state that a patch applies to: one that a fresh clone has too.
    pub(super) async fn export_base(&self, repository: &Path, asked: Option<&str>) -> GitResult<String> {
        if let Some(asked) = asked {
            return self.required_commit(repository, asked).await;
        }
        if !self.has_commits(repository).await {
            return Ok(EMPTY_TREE.to_owned());
        }
        let mut candidates = Vec::new();
        if let Some(branch) = self.branch(repository).await {
            candidates.push(format!("origin/{branch}"));
        }
        if let Some(default) = self.asked_default_branch(repository).await {
            let remote = format!("origin/{default}");
            let base = self.merge_base(repository, &remote).await;
            candidates.push(remote);
            candidates.extend(base);
        }
        for candidate in &candidates {
            if let Some(found) = self.resolve(repository, candidate).await {
                return Ok(found);
            }
        }
        Ok(EMPTY_TREE.to_owned())
    }
}
