"""The numbers of the system calls, NAME:X86_64:AARCH64 (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux), in three lots: what a program in the sandbox may call, what it may call
with some arguments (`seccomp.py`), and what it may not. Whatever isn't listed it may not call either.
"""

_ALLOWED = """
read:0:63 write:1:64 open:2:- close:3:57 stat:4:- fstat:5:80 lstat:6:- poll:7:- lseek:8:62 mmap:9:222
mprotect:10:226 munmap:11:215 brk:12:214 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139
pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 access:21:- pipe:22:- select:23:- sched_yield:24:124
mremap:25:216 msync:26:227 mincore:27:232 madvise:28:233 dup:32:23 dup2:33:- pause:34:- nanosleep:35:101
getitimer:36:102 alarm:37:- setitimer:38:103 getpid:39:172 sendfile:40:71 recvfrom:45:207 recvmsg:47:212
shutdown:48:210 getsockname:51:204 getpeername:52:205 getsockopt:55:209 fork:57:- vfork:58:- execve:59:221
exit:60:93 wait4:61:260 kill:62:129 uname:63:160 fcntl:72:25 flock:73:32 fsync:74:82 fdatasync:75:83
truncate:76:45 ftruncate:77:46 getdents:78:- getcwd:79:17 chdir:80:49 fchdir:81:50 rename:82:- mkdir:83:-
rmdir:84:- creat:85:- link:86:- unlink:87:- symlink:88:- readlink:89:- chmod:90:- fchmod:91:52 chown:92:-
fchown:93:55 lchown:94:- umask:95:166 gettimeofday:96:169 getrlimit:97:163 getrusage:98:165 sysinfo:99:179
times:100:153 getuid:102:174 getgid:104:176 geteuid:107:175 getegid:108:177 setpgid:109:154 getppid:110:173
getpgrp:111:- setsid:112:157 getgroups:115:158 getresuid:118:148 getresgid:120:150 getpgid:121:155
getsid:124:156 capget:125:90 rt_sigpending:127:136 rt_sigtimedwait:128:137 rt_sigqueueinfo:129:138
rt_sigsuspend:130:133 sigaltstack:131:132 utime:132:- mknod:133:- statfs:137:43 fstatfs:138:44
getpriority:140:141 setpriority:141:140 sched_getparam:143:121 sched_getscheduler:145:120
sched_get_priority_max:146:125 sched_get_priority_min:147:126 sched_rr_get_interval:148:127 arch_prctl:158:-
setrlimit:160:164 gettid:186:178 readahead:187:213 tkill:200:130 time:201:- futex:202:98
sched_getaffinity:204:123 epoll_create:213:- getdents64:217:61 set_tid_address:218:96 restart_syscall:219:128
fadvise64:221:223 timer_create:222:107 timer_settime:223:110 timer_gettime:224:108 timer_getoverrun:225:109
timer_delete:226:111 clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 exit_group:231:94
epoll_wait:232:- epoll_ctl:233:21 tgkill:234:131 utimes:235:- waitid:247:95 inotify_init:253:-
inotify_add_watch:254:27 inotify_rm_watch:255:28 openat:257:56 mkdirat:258:34 mknodat:259:33 fchownat:260:54
futimesat:261:- newfstatat:262:79 unlinkat:263:35 renameat:264:38 linkat:265:37 symlinkat:266:36
readlinkat:267:78 fchmodat:268:53 faccessat:269:48 pselect6:270:72 ppoll:271:73 set_robust_list:273:99
get_robust_list:274:100 utimensat:280:88 epoll_pwait:281:22 signalfd:282:- timerfd_create:283:85 eventfd:284:-
fallocate:285:47 timerfd_settime:286:86 timerfd_gettime:287:87 signalfd4:289:74 eventfd2:290:19
epoll_create1:291:20 dup3:292:24 pipe2:293:59 inotify_init1:294:26 preadv:295:69 pwritev:296:70 getcpu:309:168
sched_getattr:315:275 renameat2:316:276 getrandom:318:278 execveat:322:281 membarrier:324:283
copy_file_range:326:285 preadv2:327:286 pwritev2:328:287 statx:332:291 rseq:334:293 pidfd_send_signal:424:424
pidfd_open:434:434 close_range:436:436 openat2:437:437 faccessat2:439:439 epoll_pwait2:441:441
futex_waitv:449:449 fchmodat2:452:452 getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 listxattr:194:11
llistxattr:195:12 flistxattr:196:13
"""
_CONDITIONAL = """
clone:56:220 socketpair:53:199 sendto:44:206 prctl:157:167 ioctl:16:29 prlimit64:302:261
"""
_FORBIDDEN = """
clone3:435:435 pivot_root:155:41 mount:165:40 umount2:166:39 unshare:272:97 setns:308:268 ptrace:101:117
process_vm_readv:310:270 process_vm_writev:311:271 keyctl:250:219 add_key:248:217 request_key:249:218
bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 io_uring_setup:425:425 io_uring_enter:426:426
io_uring_register:427:427 kexec_load:246:104 reboot:169:142 personality:135:92 socket:41:198 connect:42:203
bind:49:200 listen:50:201 accept:43:202 accept4:288:242 sendmsg:46:211 sendmmsg:307:269 setsockopt:54:208
chroot:161:51 memfd_create:319:279 shmget:29:194 shmat:30:196 mq_open:240:180 open_by_handle_at:304:265
name_to_handle_at:303:264 init_module:175:105 finit_module:313:273 pidfd_getfd:438:438 seccomp:317:277
landlock_create_ruleset:444:444 landlock_add_rule:445:445 landlock_restrict_self:446:446 mount_setattr:442:442
capset:126:91 splice:275:76 tee:276:77 vmsplice:278:75 quotactl:179:60 swapon:167:224 syslog:103:116
setuid:105:146 setgid:106:144 kcmp:312:272 fanotify_init:300:262 msgget:68:186 semget:64:190 move_mount:429:429
fsopen:430:430 open_tree:428:428 kexec_file_load:320:294
"""
ARCHITECTURES = ("x86_64", "aarch64")


def _read(table: str) -> dict[str, tuple[int | None, ...]]:
    rows = (entry.split(":") for entry in table.split())
    return {name: tuple(None if n == "-" else int(n) for n in numbers) for name, *numbers in rows}


ALLOWED, CONDITIONAL, FORBIDDEN = map(_read, (_ALLOWED, _CONDITIONAL, _FORBIDDEN))
_ALL = ALLOWED | CONDITIONAL | FORBIDDEN


def number(name: str, architecture: str) -> int:
    """The number of a system call. Raises OSError where the architecture is unknown or hasn't got it."""
    if architecture in ARCHITECTURES:
        entry = _ALL[name][ARCHITECTURES.index(architecture)]
        if entry is not None:
            return entry
    raise OSError(f"{name}: no such system call known on {architecture}")


def allowed(architecture: str) -> list[int]:
    """The numbers of what may be called whatever the arguments."""
    numbers = (row[ARCHITECTURES.index(architecture)] for row in ALLOWED.values())
    return [number for number in numbers if number is not None]
