"""System calls by theme: what an ordinary container may call, and what only a capability opens.

Constraint: the sum is what containers of other engines are used to, so that images run unchanged; it is written as our
own list because each theme has its own reason. A trailing ``*`` group is spelled out: names are never patterns, for
a new call of a known family may be dangerous (io_uring, clone3). Names are those of man-pages; machines lack some.
"""

from __future__ import annotations

__all__ = ["BY_ARCHITECTURE", "BY_CAPABILITY", "ORDINARY"]

ORDINARY: dict[str, str] = {
    "open, close and share descriptors": """
        open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 ioctl flock pipe pipe2 eventfd
        eventfd2 memfd_create memfd_secret name_to_handle_at""",
    "read, write, copy": """
        read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek sendfile sendfile64
        splice tee vmsplice copy_file_range readahead fadvise64 fadvise64_64 fallocate truncate truncate64 ftruncate
        ftruncate64 sync syncfs fsync fdatasync sync_file_range cachestat""",
    "asynchronous input and output of the old kind; io_uring goes around every filter": """
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64""",
    "directories and names": """
        getcwd chdir fchdir getdents getdents64 mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink
        symlinkat unlink unlinkat readlink readlinkat mknod mknodat umask""",
    "what is known of files": """
        stat stat64 fstat fstat64 lstat lstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 access
        faccessat faccessat2 utime utimes futimesat utimensat utimensat_time64 statmount listmount""",
    "owners, modes and extended attributes": """
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 getxattr lgetxattr
        fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat
        removexattr lremovexattr fremovexattr removexattrat""",
    "watch files": """
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark""",
    "wait for descriptors": """
        poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl
        epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2""",
    "sockets; socket(2) itself has rules of its own, socketcall(2) hides its arguments from filters": """
        socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername getsockopt
        setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64""",
    "memory": """
        brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall mseal
        remap_file_pages membarrier map_shadow_stack pkey_alloc pkey_free pkey_mprotect""",
    "begin and end processes; clone(2) and clone3(2) have rules of their own": """
        fork vfork execve execveat exit exit_group wait4 waitid waitpid pidfd_open pidfd_send_signal
        process_mrelease""",
    "threads": """
        futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue set_robust_list get_robust_list
        set_tid_address set_thread_area get_thread_area gettid rseq uretprobe restart_syscall""",
    "who a process is": """
        getpid getppid getpgid getpgrp setpgid getsid setsid getuid getuid32 geteuid geteuid32 getgid getgid32 getegid
        getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32""",
    "become somebody else, as far as capabilities go": """
        setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid
        setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset""",
    "signals": """
        kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending
        rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 signalfd signalfd4 pause""",
    "scheduling and limits": """
        sched_yield sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr
        sched_getaffinity sched_setaffinity sched_get_priority_min sched_get_priority_max sched_rr_get_interval
        sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getrlimit ugetrlimit setrlimit
        prlimit64 getrusage times getcpu""",
    "clocks and timers; adjusting asks for CAP_SYS_TIME in the kernel": """
        time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_adjtime clock_adjtime64
        adjtimex nanosleep clock_nanosleep clock_nanosleep_time64 alarm getitimer setitimer timer_create timer_delete
        timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64""",
    "System V and POSIX queues, semaphores and shared memory; they live in the container's ipc namespace": """
        ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
        mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend
        mq_timedsend_time64""",
    "restrict oneself further": """
        seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self prctl""",
    "about the system": """
        uname sysinfo getrandom riscv_hwprobe""",
}
"""Allowed to everyone, whatever the arguments."""

BY_CAPABILITY: dict[str, str] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick clone clone3 unshare
        setns
        sethostname setdomainname quotactl quotactl_fd bpf perf_event_open fanotify_init lookup_dcookie syslog
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "mbind get_mempolicy set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
"""Allowed to those who have the capability in their bounding set: a container's root may then use what it was given."""

BY_ARCHITECTURE: dict[str, str] = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
}
"""Allowed on one family of machines, its 32-bit programs included."""
