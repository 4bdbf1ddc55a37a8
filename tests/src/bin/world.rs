//! The world as a process: `world LEDGER FOLDER`. Prints the address that it listens on, then keeps
//! the ledger until it is killed. See `majordomo_tests::world`.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use shared::clock;

/// What was done, line by line; no line twice.
struct Ledger {
    file: File,
    lines: BTreeSet<String>,
}

impl Ledger {
    /// Writes an effect down. False where this very effect had been done.
    fn write(&mut self, line: String) -> bool {
        if !self.lines.insert(line.clone()) {
            return false;
        }
        let line = format!("{line} {}\n", clock::now().0);
        self.file
            .write_all(line.as_bytes())
            .expect("the ledger can be written");
        true
    }
}

fn main() {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [ledger, folder] = args.as_slice() else {
        panic!("usage: world LEDGER FOLDER");
    };
    let file = File::options().create(true).append(true).open(ledger);
    let ledger = Arc::new(Mutex::new(Ledger {
        file: file.expect("the ledger can be opened"),
        lines: BTreeSet::new(),
    }));
    fs::create_dir_all(folder).expect("the folder can be made");
    let watched = Watched::new(folder);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    println!("{}", listener.local_addr().expect("it has an address"));
    {
        let ledger = ledger.clone();
        std::thread::spawn(move || watched.run(&ledger));
    }
    let mut posts = 0;
    for stream in listener.incoming().flatten() {
        posts += 1;
        answer(stream, &ledger, posts, folder);
    }
}

fn answer(mut stream: TcpStream, ledger: &Mutex<Ledger>, number: u64, folder: &Path) {
    let mut line = String::new();
    let read = BufReader::new(&stream).read_line(&mut line);
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut ledger = ledger.lock().expect("nobody panics with the ledger");
    let said = match (read, words.as_slice()) {
        (Ok(_), ["post", name, _]) => ledger.write(format!("post {name} {number}")),
        (Ok(_), ["keyed", name, key]) => ledger.write(format!("post {name} {key}")),
        (Ok(_), ["sync", _]) => {
            scan(folder, &mut ledger);
            true
        }
        _ => false,
    };
    // A client that died does not want to know.
    let _ = writeln!(stream, "{}", if said { "done" } else { "known" });
}

/// Writes down all files below a folder: what the watch may not have seen yet.
fn scan(folder: &Path, ledger: &mut Ledger) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => scan(&entry.path(), ledger),
            _ => note(&entry.path(), ledger),
        }
    }
}

fn note(path: &Path, ledger: &mut Ledger) {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let hidden = name.starts_with('.');
    if let (false, Ok(metadata)) = (hidden, fs::metadata(path)) {
        ledger.write(format!("file {name} {}", metadata.ino()));
    }
}

/// A folder and those below it, watched for files that are moved or made there.
struct Watched {
    inotify: Inotify,
    folders: HashMap<WatchDescriptor, PathBuf>,
}

impl Watched {
    fn new(folder: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::empty()).expect("inotify works");
        let mut watched = Self {
            inotify,
            folders: HashMap::new(),
        };
        watched.add(folder);
        watched
    }

    fn add(&mut self, folder: &Path) {
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        if let Ok(watch) = self.inotify.add_watch(folder, flags) {
            self.folders.insert(watch, folder.to_owned());
        }
    }

    fn run(mut self, ledger: &Mutex<Ledger>) {
        while let Ok(events) = self.inotify.read_events() {
            let mut ledger = ledger.lock().expect("nobody panics with the ledger");
            for event in events {
                let (Some(folder), Some(name)) = (self.folders.get(&event.wd), event.name) else {
                    continue;
                };
                let path = folder.join(name);
                if path.is_dir() {
                    self.add(&path);
                    scan(&path, &mut ledger);
                } else if event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
                    note(&path, &mut ledger);
                }
            }
        }
    }
}
