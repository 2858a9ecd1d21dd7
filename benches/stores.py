#!/usr/bin/env python3
"""What a repository in a bucket costs beside one on a local disk, and beside restic's: time, and requests.

  benches/stores.py                                  a dump of 1 GiB, an S3 server that is 20 ms away
  benches/stores.py --dump FILE                      a dump that is there, and make none
  benches/stores.py --latency-ms 0 --latency-ms 20   at several distances
  benches/stores.py --packs 10000                    also opens a repository of so many packs, which takes long to make
  benches/stores.py --small                          64 MiB, to see that it runs; no bound is judged

It prints tables in Markdown to standard output and what it does to standard error. Exit code: 0 all bounds that were
judged hold, 1 one is missed, 2 it could not be measured. It needs restic and what delta.py needs, and builds its server.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

from delta import HERE, JUDGED_BYTES, MIB, MISSED, Failure, Generated, Run, build, field, number, say, sha256, table

ROUNDS = 3                      # the median counts
BUCKET, KEY = 'bench', 'test'   # the server's key is its own secret
GIB = 1024 * MIB
JUDGED_PACKS = 10_000
PACKS_PER_TINY = 2              # a tiny backup of new bytes stores one of data and one of manifests


def build_front():
    say('cargo build --release -p dedump-tests --bin front')
    words = ['cargo', 'build', '--release', '--locked', '-p', 'dedump-tests', '--bin', 'front']
    if subprocess.run(words, cwd=HERE).returncode != 0:
        raise Failure('the front does not build')
    target = Path(os.environ.get('CARGO_TARGET_DIR') or HERE.parent / 'target').resolve()
    return target / 'release' / 'front'


def build_server():
    say('benches/server')
    built = subprocess.run([HERE / 'server'], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise Failure('the server does not build')
    return Path(built.stdout.strip())


class Server:
    """s3s-fs with a bucket, and in front of it who holds everything up and counts it."""

    def __init__(self, folder, program, front, latency_ms):
        self.bucket = folder / BUCKET
        self.bucket.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            behind = '127.0.0.1:%d' % free.getsockname()[1]
        host, port = behind.split(':')
        words = [program, '--host', host, '--port', port, '--access-key', KEY, '--secret-key', KEY, folder]
        self.processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
        self.await_listening(host, int(port))
        self.processes.append(subprocess.Popen([front, '127.0.0.1:0', behind, str(latency_ms)],
                                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        self.endpoint = 'http://' + self.processes[1].stdout.readline().strip()
        self.environment = {'AWS_ACCESS_KEY_ID': KEY, 'AWS_SECRET_ACCESS_KEY': KEY, 'AWS_REGION': 'us-east-1',
                            'AWS_DEFAULT_REGION': 'us-east-1', 'AWS_ENDPOINT_URL': self.endpoint}
        self.direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def await_listening(self, host, port):
        until = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection((host, port), 1).close()
            except OSError as error:
                if self.processes[0].poll() is not None or time.monotonic() > until:
                    raise Failure(f's3s-fs does not listen: {error}')
                time.sleep(0.05)

    def counts(self):
        """What passed since this was asked last."""
        with self.direct.open(self.endpoint + '/counts') as reply:
            return json.load(reply)

    def cpu(self):
        """Seconds of processor time that server and front took so far."""
        def one(process):
            fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
        return sum(map(one, self.processes))

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Tool:
    """A program with a repository of its own, and what was measured with it."""

    def __init__(self, name, server=None, environment=()):
        self.name, self.server, self.environment = name, server, dict(environment)
        self.runs, self.counted = {}, {}

    def run(self, what, words, **how):
        """Runs it; what it took is kept under that name, with what passed at the server."""
        cpu_before = 0
        if self.server:
            self.server.counts()
            cpu_before = self.server.cpu()
        os.sync()       # what is still to be written back would be written while it is measured
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            run = Run(words, **how)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.runs.setdefault(what, []).append(run)
        run.server_cpu = self.server.cpu() - cpu_before if self.server else 0
        if self.server:
            self.counted.setdefault(what, []).append(self.server.counts())
        return run

    def wall(self, what):
        return median(run.wall for run in self.runs[what])

    def cpu(self, what):
        return median(run.cpu for run in self.runs[what])

    def server_cpu(self, what):
        return median(run.server_cpu for run in self.runs[what])

    def peak(self, what):
        return max(run.peak for run in self.runs[what])

    def count(self, what, *kinds):
        return max(sum(counted[kind] for kind in kinds) for counted in self.counted[what])

    def requests(self, what):
        return self.count(what, 'put', 'get', 'head', 'list', 'delete')


class Dedump(Tool):
    def __init__(self, name, dedump, folder, location, server=None):
        super().__init__(name, server, {**(server.environment if server else {}), 'XDG_CACHE_HOME': str(folder / 'cache')})
        folder.mkdir(parents=True)
        self.folder = folder
        Run([dedump, 'key', 'generate', folder / 'key'])
        self.options = [dedump, '--allow-http', '--repo', location, '--key-file', folder / 'key']
        self.run('init', [*self.options, 'init'])

    def backup(self, what, path):
        words = ['backup', '--json', '--name', path.name, '-']
        report = self.run(what, [*self.options, *words], stdin=path).json()
        self.id = field(field(report, 'snapshot', 'backup'), 'id', 'backup')

    def restore(self, what):
        self.run(what, [*self.options, 'restore', self.id, '--to', '-'], discard=True)

    def verify(self, path):
        back = self.folder / 'back'
        self.run('verify', [*self.options, 'restore', self.id, '--stream', path.name, '--to', back])
        if sha256(back) != sha256(path):
            raise Failure(f'{self.name}: the dump came back with other bytes')
        back.unlink()

    def forget_cache(self):
        shutil.rmtree(self.folder / 'cache', ignore_errors=True)


class Restic(Tool):
    def __init__(self, name, folder, location, server=None):
        own = {'RESTIC_PASSWORD': 'bench', 'RESTIC_REPOSITORY': str(location), 'RESTIC_CACHE_DIR': str(folder / 'cache')}
        super().__init__(name, server, {**(server.environment if server else {}), **own})
        folder.mkdir(parents=True)
        self.folder = folder
        self.run('init', ['restic', 'init'])

    def backup(self, what, path):
        self.run(what, ['restic', 'backup', '--stdin', '--stdin-filename', path.name], stdin=path)
        self.path = path.name

    def restore(self, what):
        self.run(what, ['restic', 'dump', 'latest', '/' + self.path], discard=True)


def measure(tools_of, path, noise, rounds):
    """Backs up, again, and restores, one tool after another in each round; every round has repositories of its own."""
    seen = {}
    for number_of_round in range(rounds):
        for tool in tools_of(number_of_round):
            say(f'round {number_of_round + 1} of {rounds}: {tool.name}')
            seen.setdefault(tool.name, tool)
            first = seen[tool.name]
            tool.backup('first', path)
            tool.backup('again', path)
            tool.restore('restore')
            if number_of_round == 0 and isinstance(tool, Dedump):
                tool.verify(path)
            if tool.server and number_of_round == 0:
                tool.backup('noise', noise)
            if tool is not first:
                for what, runs in tool.runs.items():
                    first.runs[what] += runs
                    first.counted.setdefault(what, []).extend(tool.counted.get(what, []))
            shutil.rmtree(tool.folder)
    return list(seen.values())


def many_packs(dedump, folder, server, packs):
    """A repository of so many packs, made on a disk and moved into the bucket; what a tiny restore asks for there."""
    say(f'making a repository of {packs} packs')
    local = Dedump('maker', dedump, folder / 'many', folder / 'many-repo')
    tiny = folder / 'tiny'
    for number in range(packs // PACKS_PER_TINY):
        tiny.write_bytes(os.urandom(200))
        local.backup('tiny', tiny)
        # Each leaves a fragment, which all that come later would read.
        if number % 250 == 249:
            Run([*local.options, 'reindex'])
    # Few stand, and nothing is pruned: a repository of so many packs usually has them of fewer and larger backups.
    Run([*local.options, 'forget', '--keep-last', '12', '--min-age', '0s'])
    Run([*local.options, 'reindex'])
    shutil.move(folder / 'many-repo', server.bucket / 'many')
    far = Tool('many', server, {**server.environment, 'XDG_CACHE_HOME': str(folder / 'many-cache')})
    far.packs = packs
    options = [dedump, '--allow-http', '--repo', f's3://{BUCKET}/many', '--key-file', folder / 'many' / 'key']
    for what in ('cold', 'warm'):
        far.run(what, [*options, 'restore', 'latest', '--to', '-'], discard=True)
    return far


def rows_of(tool, size):
    what = ['first', 'again', 'restore']
    speed = lambda what: f'{size / tool.wall(what) / 1e6:.0f}'
    row = [tool.name, speed('first'), f'{tool.wall("again"):.2f}', speed('restore'),
           *(f'{tool.peak(name) / MIB:.0f}' for name in ('first', 'restore')), f'{tool.cpu("restore"):.2f}']
    if not tool.server:
        return row + ['', '', '', '', '']
    kinds = lambda name: ' + '.join(str(tool.count(name, kind)) for kind in ('put', 'get', 'head', 'list', 'delete'))
    return row + [f'{tool.server_cpu("restore"):.2f}'] + [kinds(name) for name in what] + [kinds('noise')]


def bounds(near, far, far_packs, many, size, noise_bytes, judged):
    rows = []

    def bound(measure, figure, sign, limit, show=number, is_judged=judged):
        holds = figure <= limit if sign == '≤' else figure >= limit
        verdict = 'not judged' if not is_judged else 'yes' if holds else MISSED
        rows.append((measure, show(figure), f'{sign} {show(limit)}', verdict))

    bound('first backup, of the local speed', near.wall('first') / far.wall('first'), '≥', 0.7)
    bound('restore, of the local speed', near.wall('restore') / far.wall('restore'), '≥', 0.6)
    bound('requests of an unchanged backup', far.requests('again'), '≤', 20 + far_packs // 1000, lambda n: f'{n:.0f}')
    put = far.count('noise', 'put') / (noise_bytes / GIB)
    bound('PUT per GiB of new data that does not compress', put, '≤', 45, lambda n: f'{n:.1f}')
    if many:
        for what, limit in (('cold', 60), ('warm', 15)):
            measure = f'requests of a tiny restore among {many.packs} packs, {what}'
            bound(measure, many.requests(what), '≤', limit, str, many.packs >= JUDGED_PACKS)
    return rows


def report(latency_ms, tools, size, far_packs, many, noise_bytes):
    near, far = (next(tool for tool in tools if tool.name == name) for name in ('dedump, local', 'dedump, S3'))
    judged = JUDGED_BYTES[0] <= size <= JUDGED_BYTES[1] and latency_ms == 20
    head = ('repository', 'first backup MB/s', 'unchanged backup s', 'restore MB/s', 'peak MiB of a backup', 'of a restore',
            'processor s of the restore', 'of its server', 'requests of the first backup', 'of the unchanged', 'of the restore', f'of {noise_bytes / MIB:.0f} MiB of noise')
    rows = bounds(near, far, far_packs, many, size, noise_bytes, judged)
    text = [f'### {size / MIB:.0f} MiB of dump, {latency_ms} ms away\n',
            table(head, [rows_of(tool, size) for tool in tools]),
            'Requests are PUT + GET + HEAD + LIST + DELETE.\n',
            table(('measure', 'figure', 'bound', 'holds'), rows)]
    return '\n'.join(text), any(row[-1] == MISSED for row in rows)


def arguments():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument('--dump', type=Path, metavar='FILE', help='back this up, and make no dump')
    parser.add_argument('--size-mib', type=int, default=1024, help='rough size of the dump that is made')
    parser.add_argument('--latency-ms', type=int, action='append', help='of a round trip; may be repeated [20]')
    parser.add_argument('--rounds', type=int, default=ROUNDS, help=f'the median counts [{ROUNDS}]')
    parser.add_argument('--packs', type=int, default=0, help='also open a repository of so many packs, such as 10000')
    parser.add_argument('--small', action='store_true', help='64 MiB, one round')
    parser.add_argument('--without-restic', action='store_true')
    parser.add_argument('--work', type=Path, metavar='DIR', help='where everything goes for a while [TMPDIR]')
    parser.add_argument('--dedump', type=Path, metavar='PATH', help='measure this binary, and build none')
    parser.add_argument('--front', type=Path, metavar='PATH', help='put this in front of the server, and build none')
    parser.add_argument('--server', type=Path, metavar='PATH', help='measure with this s3s-fs, and build none')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='write the tables to this file too')
    args = parser.parse_args()
    if args.small:
        args.size_mib, args.rounds = 64, 1
    args.latency_ms = list(dict.fromkeys(args.latency_ms or [20]))
    return args


def make_dump(folder, size_mib):
    series = Generated(folder / 'series', 42, size_mib, False)
    try:
        series.begin(1)
        return series.take('sql', 1).rename(folder / 'app.sql')
    finally:
        series.end()


def at(latency_ms, args, programs, dump, noise, folder):
    """Measures at one distance."""
    dedump, s3s, front = programs
    server = Server(folder / 'server', s3s, front, latency_ms)
    try:
        def tools_of(n):
            yield Dedump('dedump, local', dedump, folder / f'near-{n}', folder / f'near-{n}' / 'repo')
            yield Dedump('dedump, S3', dedump, folder / f'far-{n}', f's3://{BUCKET}/far-{n}', server)
            if not args.without_restic:
                yield Restic('restic, local', folder / f'restic-near-{n}', folder / f'restic-near-{n}' / 'repo')
                yield Restic('restic, S3', folder / f'restic-far-{n}', f's3:{server.endpoint}/{BUCKET}/restic-{n}', server)

        tools = measure(tools_of, dump, noise, args.rounds)
        far_packs = sum(1 for kind in ('packs', 'meta') for path in (server.bucket / 'far-0' / kind).rglob('*') if path.is_file())
        many = many_packs(dedump, folder, server, args.packs) if args.packs else None
    finally:
        server.stop()
    return report(latency_ms, tools, dump.stat().st_size, far_packs, many, noise.stat().st_size)


def main():
    args = arguments()
    # A termination leaves no server behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    dedump = args.dedump.resolve() if args.dedump else build()
    front = args.front.resolve() if args.front else build_front()
    programs = (dedump, args.server.resolve() if args.server else build_server(), front)
    folder = Path(tempfile.mkdtemp(prefix='dedump-stores-', dir=args.work)).resolve()
    folder.chmod(0o755)
    missed, parts = False, []
    try:
        dump = args.dump.resolve() if args.dump else make_dump(folder, args.size_mib)
        noise = folder / 'noise'
        with open(noise, 'wb') as file:
            for _ in range(max(dump.stat().st_size // MIB, 1)):
                file.write(os.urandom(MIB))
        for latency_ms in args.latency_ms:
            text, is_missed = at(latency_ms, args, programs, dump, noise, folder / f'at-{latency_ms}')
            missed |= is_missed
            parts.append(text)
            shutil.rmtree(folder / f'at-{latency_ms}')
            if args.markdown:
                args.markdown.write_text('\n'.join(parts))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print('\n'.join(parts))
    return 1 if missed else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (Failure, OSError) as failure:
        print(f'stores.py: {failure}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
