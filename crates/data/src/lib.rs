//! Training data: token files, resumable loader, synthetic stories, download.
