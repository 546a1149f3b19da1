//! Files that are closed by `execve`: until that is answered the kernel holds the process's exec
//! lock, and whoever reads certain files of its `/proc` waits for it. A daemon that did would hang
//! the mount, the program, and every `ps` of the host.

mod support;

use std::time::Duration;
use support::mounted::Mounted;
use support::shell::try_sh;
use support::{can_mount, has_programs};

/// Much longer than any of this takes, much shorter than for ever.
const SOON: Duration = Duration::from_secs(20);

/// `script` ends well and leaves this in `$f`, and what `ps` reads of it answers while it runs.
fn goes_through(mounted: &Mounted, script: &str, leaves: &str) {
    let f = mounted.root(0).join("f");
    let script = format!(
        "export f={} m={}; echo old > $f
         ({script}) & p=$!
         for q in $p $(cat /proc/$p/task/$p/children 2> /dev/null); do cat /proc/$q/stat; done > /dev/null 2>&1 || true
         wait $p; [ \"$(cat $f)\" = '{leaves}' ]",
        f.display(),
        mounted.root(0).display()
    );
    let ran = try_sh_or_unmount(mounted, &script);
    assert_eq!(ran.code, Some(0), "{script}\n{ran:#?}");
}

/// What hangs in `execve` cannot even be killed: it goes with the mount's connection.
fn try_sh_or_unmount(mounted: &Mounted, script: &str) -> support::shell::Ran {
    let root = mounted.root(0).to_owned();
    let (done, is_done) = crossbeam_channel::bounded::<()>(0);
    let guard = std::thread::spawn(move || {
        let late = is_done.recv_timeout(SOON + Duration::from_secs(5));
        if late == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            support::abort(&root);
        }
    });
    let ran = try_sh(script, SOON);
    drop(done);
    guard.join().unwrap();
    ran
}

/// F3, E4: a descriptor that is closed by starting another program is closed like any other.
#[test]
fn a_truncated_file_is_closed_by_exec() {
    if !can_mount() || !has_programs(&["perl", "python3"]) {
        return;
    }
    let mounted = Mounted::start(1);
    for closes in [
        // A shell keeps a close-on-exec copy of what it redirects.
        "{ { /bin/true; } > /dev/null; } > $f",
        "dash -c '{ { /bin/true; } > /dev/null; } > $f'",
        "perl -e 'open F, \">\", $ENV{f}; system \"/bin/true\"'",
        "perl -e 'open F, \">\", $ENV{f}; exec \"/bin/true\"'",
        "python3 -c 'import os; f = open(os.environ[\"f\"], \"w\"); os.system(\"true\")'",
        "python3 -c 'import os; f = open(os.environ[\"f\"], \"w\"); os.execv(\"/bin/true\", [\"true\"])'",
    ] {
        goes_through(&mounted, closes, "");
    }
    let copy = "import os,subprocess; \
        subprocess.run([\"/bin/echo\", \"new\"], stdout=open(os.environ[\"f\"], \"w\"))";
    goes_through(&mounted, &format!("python3 -c '{copy}'"), "new");
}

/// T8, E4: nor does a ticket that a program is started over make anybody wait for it.
#[test]
fn a_ticket_is_closed_by_exec() {
    if !can_mount() || !has_programs(&["perl"]) {
        return;
    }
    let mounted = Mounted::start(1);
    std::fs::create_dir(mounted.root(0).join("lock/exec")).unwrap();
    let ticket = "open F, \">\", \"$ENV{m}/lock/exec/t\" or die; ";
    for start in ["exec", "system"] {
        let script = format!("perl -e '{ticket} {start} \"/bin/true\"'; rm -f $m/lock/exec/t");
        goes_through(&mounted, &script, "old");
    }
}

/// F3, E4: what else a process has open is not looked through, and holds up nobody.
#[test]
fn closing_costs_no_more_the_more_is_open_elsewhere() {
    if !can_mount() || !has_programs(&["python3"]) {
        return;
    }
    let mounted = Mounted::start(1);
    let script = "import os,sys,time,resource,statistics
n=os.environ['f']; resource.setrlimit(resource.RLIMIT_NOFILE,(20000,20000))
def closing():
    t=[]
    for i in range(15):
        f=os.open(n,os.O_WRONLY|os.O_CREAT,0o644); os.write(f,b'x'); os.close(f)
        f=os.open(n,os.O_WRONLY|os.O_TRUNC); s=time.monotonic(); os.close(f); t.append(time.monotonic()-s)
    return 1000*min(t)
few=closing(); z=os.open('/dev/null',os.O_RDONLY)
for i in range(19000): os.dup(z)
many=closing(); print(few, many); sys.exit(many>few+20)";
    let f = mounted.root(0).join("many");
    let ran = try_sh_or_unmount(
        &mounted,
        &format!("export f={}; python3 - <<'P'\n{script}\nP", f.display()),
    );
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}
