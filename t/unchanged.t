# What the module has no part in is as nginx alone does it: random requests go
# to nginx without the module, to one with it that protects other locations,
# and to one where every location is protected but nothing is refused (a live
# token, or none).  The same bytes come back, the same reach the upstream but
# for QB-Token, and connections last as long.  SEED repeats a run, COUNT makes
# it longer.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Compress::Zlib ();
use Gateway;
use IO::Select ();
use IO::Socket::INET ();
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More;

my $seed = $ENV{SEED} // ($ENV{QUICKBLOX_LONG} ? int rand 1e9 : 12);
my $count = $ENV{COUNT} // ($ENV{QUICKBLOX_LONG} ? 20_000 : 2000);
my @targets = qw(plain around protected);

my $t = Gateway->new;
my $api = $t->api;
my $token = $api->session(user_id => 5);

diag "SEED=$seed COUNT=$count";
srand $seed;

sub pick (@from) { return $from[rand @from] }
sub chance ($percent) { return rand(100) < $percent }

my $expired = '{"errors":{"base":["Required session does not exist"]}}';
my %kinds;


# The upstream's answers, as the bytes of its writes.

sub body ($small) {
    return pick(
        '', 'x', "a xx line\n" x int rand 40, $expired,
        substr($expired, 0, rand length $expired),
        '{"errors":["Unauthorized"]}',
        $small ? 'y' : 'y' x (8192 + int rand 3) . $expired,
        join('', map { chr int rand 256 } 1 .. int rand 3000),
        !$small && chance(20) ? 'large ' x 40_000 : 'small',
    );
}

# Small ones to pipelined requests, as nobody can tell how those that come in
# several pieces will be chunked.  nginx may take an interim answer for the
# last: a client would wait for more, and nginx for the connection's end.
sub answer ($pipelined) {
    my $interim = $pipelined && chance(9);
    my $status = chance(35) ? 401 : pick(200, 200, 200, 201, 202, 203, 204,
        206, 301, 302, 303, 304, 307, 400, 402, 403, 404, 405, 409, 410, 416,
        418, 422, 429, 451, 499, 500, 502, 503, 504, 599);
    my $body = body($pipelined);

    # the matching one is the module's affair
    $body =~ s/Required/Desired/ if $status == 401 && length $body < 8192;

    my @head = ('Date: Wed, 01 Jan 2025 00:00:00 GMT', map { pick(
        'Content-Type: text/html', 'Content-Type: application/json',
        'Set-Cookie: a=1; Path=/', 'Set-Cookie: b=2', 'X-Empty:',
        'WWW-Authenticate: Basic realm="x"', 'Server: up/1', 'Vary: Origin',
        'Cache-Control: max-age=60', 'ETag: "abc"', 'Accept-Ranges: bytes',
        'Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT', 'x-lower: a  b',
        'Expires: Thu, 01 Jan 1970 00:00:01 GMT', 'X-Accel-Buffering: no',
        'QB-Token-ExpirationDate: 2030-01-01 00:00:00 UTC', 'Link: </a>',
        'Retry-After: 3', 'Cache-Control: no-store', 'X-Long: ' . 'z' x 900,
        'Location: /p/elsewhere', 'Location: http://up/p/1', 'P_u: 1',
    ) } 1 .. int rand 6);

    if (chance(4)) {
        push @head, 'X-Accel-Redirect: ' . pick('/files/a.txt', '/p/end',
            '/files/none', '@named');
    }

    if (length $body && chance(10)) {
        $body = Compress::Zlib::memGzip($body);
        push @head, 'Content-Encoding: gzip';
    }

    my $how = pick(qw(length length length chunked chunked trailers close cut
        none broken));

    if ($how eq 'length' || $how eq 'cut') {
        push @head, 'Content-Length: '
            . (length($body) + ($how eq 'cut' ? 5 : 0));

    } elsif ($how eq 'chunked' || $how eq 'trailers') {
        push @head, 'Transfer-Encoding: chunked';
        my $size = 1 + int rand 5000;
        $body = join '', (map { sprintf "%x\r\n%s\r\n", length, $_ }
            unpack "(a$size)*", $body), "0\r\n",
            $how eq 'trailers' ? "X-Trailer: 1\r\n" : '', "\r\n";

    } elsif ($how eq 'none') {
        $body = '';
        push @head, 'Content-Length: 0';
    }

    # nginx must not find a connection closed that it keeps
    my $close = $interim || chance(10);
    push @head, 'Connection: close' if $close;

    my $bytes = join "\r\n", "HTTP/1.1 $status Any", @head, '', '';
    $bytes = pick('', "HTTP/1.1 401 X\r\nA: b\r\n",
        "HTTP/1.1 401\r\n\r\n$expired" =~ s/Required//r) if $how eq 'broken';
    $bytes = pick("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n") . $bytes if $interim;
    $bytes .= $body if $how ne 'broken';

    my @writes = $bytes;
    if (!$pipelined && chance(15) && length $bytes < 9000) {
        my $at = int rand length $bytes;
        @writes = grep { length } $bytes =~ /\A(.{$at})(.{0,7})(.*)\z/s;
        $kinds{'split answers'}++;
    }

    $kinds{$status == 401 ? "401 $how" : "$how answers"}++;

    return {writes => \@writes, cut => $how eq 'cut',
        close => $close || scalar $how =~ /^(?:close|cut|broken)$/};
}


# The upstream: one for each target, in a process of its own; it notes what
# came, on which of the connections, before it answers.

my %answers = (end => {writes => ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
    . "Date: Wed, 01 Jan 2025 00:00:00 GMT\r\n\r\nend"]});

sub request_of ($c) {
    $c->{in} =~ /\A(.*?\r\n\r\n)/s or return;
    my $head = $1;
    my $rest = substr $c->{in}, length $head;
    my $body = '';

    if ($head =~ /^Transfer-Encoding: *chunked/mi) {
        while (1) {
            $rest =~ s/\A([0-9a-f]+)\r\n//i or return;
            my $size = hex $1;
            return if length $rest < $size + 2;
            $body .= substr $rest, 0, $size;
            substr $rest, 0, $size + 2, '';
            last if !$size;
        }

    } elsif ($head =~ /^Content-Length: *(\d+)/mi) {
        return if length $rest < $1;
        $body = substr $rest, 0, $1, '';
    }

    $c->{in} = $rest;

    return $head, $body;
}

sub upstream ($listener, $file) {
    local $SIG{PIPE} = 'IGNORE';
    my $select = IO::Select->new($listener);
    my %c;
    my $accepted = 0;

    open my $log, '>', $file or die "$file: $!";
    binmode $log;
    $log->autoflush;

    while (my @ready = $select->can_read) {
        for my $socket (@ready) {
            if ($socket == $listener) {
                my $new = $listener->accept or next;
                setsockopt $new, IPPROTO_TCP, TCP_NODELAY, 1;
                $c{$new} = {in => '', number => ++$accepted};
                $select->add($new);
                next;
            }

            my $c = $c{$socket};
            my $close = !sysread $socket, $c->{in}, 65536, length $c->{in};

            while (my ($head, $body) = request_of($c)) {
                my ($key) = $head =~ m{^\S+ \S*?/(\d+|end)\b};
                my $answer = $answers{$key // 'end'} // $answers{end};

                print $log pack 'N/a* N/a*',
                    ($key // '') . " " . ++$c->{requests}, "$head$body";

                for my $bytes (@{$answer->{writes}}) {
                    syswrite $socket, $bytes;
                    select undef, undef, undef, 0.001
                        if @{$answer->{writes}} > 1;
                }

                $close ||= $answer->{close}
                    || $head !~ m{\A[^\r]* HTTP/1\.1\r}
                    || $head =~ /^Connection: close\r$/m;
                last if $close;
            }

            if ($close) {
                $select->remove($socket);
                delete $c{$socket};
                close $socket;
            }
        }
    }
}


# Requests

my $key = 0;

sub request ($pipelined) {
    my $place = pick(qw(p p p u k k i i s z r c files files try ret e));
    my %r = (version => pick('1.1', '1.1', '1.1', '1.0'));

    $r{method} = pick(qw(GET GET GET GET HEAD HEAD POST POST PUT PATCH DELETE
        OPTIONS PROPFIND TRACE FOO));

    if ($place eq 'files') {
        $r{path} = '/files/' . pick('a.txt', 'a.txt', 'b.html', '', 'dir',
            'dir/', 'none', '../etc', 'a.txt?x=1', 'inc.shtml');

    } elsif ($place eq 'try') {
        $r{path} = '/try/' . pick('a.txt', 'none', 'dir');

    } elsif ($place eq 'ret') {
        $r{path} = '/ret/' . pick(200, 204, 301, 401, 404, 444);

    } else {
        $answers{++$key} = answer($pipelined);

        # How much a filter holds back for a rest that never comes depends on
        # how the bytes came.
        $place = 'p' if $place =~ /^[se]$/ && $answers{$key}{cut};

        $r{path} = "/$place/$key" . pick('', '', '?a=b', '?%20=/', '/x%2fy');

        # What may be an expired response enters no cache, so a HEAD does not
        # have to wait for the rest of a body, and learn that there is none.
        $r{method} = 'GET' if $place eq 'c' && $answers{$key}{cut};
    }

    my @headers = map { [split /: ?/, $_, 2] } map { pick(
        'Range: bytes=0-3', 'Range: bytes=2-3,5-6', 'Range: bytes=-2',
        'Range: bytes=99999-', 'If-None-Match: "abc"', 'Accept: */*',
        'If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT', 'TE: trailers',
        'If-Match: "zzz"', 'Accept-Encoding: gzip', 'Accept-Encoding: gzip',
        'X_Under_Score: 1', 'X-Empty:', 'X-Same: 1', 'X-Same: 2', 'Bad@: 1',
        'Cookie: a=b; c=d', 'Authorization: Basic YTpi', 'Origin: http://a',
        'Authorization: Bearer zz', 'X-Long: ' . 'l' x 3000, 'DNT: 1',
        'Connection: keep-alive', 'Connection: close', 'x-lower: Case',
        'Upgrade: foo', 'Content-Type: application/json', 'X-Forwarded-For: 1',
        'Content-Type: application/x-www-form-urlencoded', 'X-Space:  a  b ',
        'If-Range: "abc"', 'User-Agent: t', 'Referer: http://x/',
    ) } 1 .. (chance(5) ? 30 : int rand 7);

    my $body;
    if ($r{method} =~ /^P[OUA]/ || chance(3)) {
        $body = 'b' x pick(0, 1, 10, 1000, 20_000, 100_000);
        $r{chunked} = 1 + int rand 9000 if $r{version} eq '1.1' && chance(30);
        push @headers, ['Expect', '100-continue'] if chance(10);
    }

    push @headers, ['Connection', 'keep-alive']
        if $r{version} eq '1.0' && chance(50);

    $kinds{$place}++;
    $kinds{"HTTP/$r{version}"}++;

    return {%r, headers => \@headers, keepalive => 1,
        defined $body ? (body => $body) : (),
        chance(50) ? (token => $token) : ()};
}


# nginx, three times

$t->write('root/files/a.txt', "0123456789\n" x 30);
$t->write('root/files/b.html', '<p>x xx</p>' x 50);
$t->write('root/files/dir/c', 'c');
$t->write('root/files/inc.shtml', 'a<!--#include virtual="/p/end" -->b'
    . '<!--#include virtual="/files/none" -->');
$t->write('root/err.html', 'the page');
utime 1600000000, 1600000000, glob($t->dir . '/root/files/*'),
    $t->dir . '/root/files/dir/c';

my $application = <<'END';
    quickblox_application chat {
        api %%API%%;
        application_id 92;
        auth_key wJHd4cQSxpQGWx5;
        auth_secret jyqGNhbGxkvBTgd;
        zone quickblox 1m;
    }
END

my %quickblox = (
    plain => ['', '', ''],
    around => [$application, '', <<'END'],
        location /guarded/ { quickblox chat; proxy_pass http://up; }
        location /p/guarded/ { quickblox chat; proxy_pass http://up; }
END
    protected => [$application,
        'quickblox chat; quickblox_session client none;', ''],
);

sub config ($name, $port) {
    my ($application, $server, $locations) = @{$quickblox{$name}};

    return <<"END";
$application
    log_format all '\$request|\$status|\$upstream_status|'
                   '\$connection_requests|\$request_completion';
    access_log access.log all;
    proxy_cache_path cache keys_zone=cache:1m;
    upstream up { server 127.0.0.1:$port; }
    upstream kept { server 127.0.0.1:$port; keepalive 4; }

    server {
        listen 127.0.0.1:%%PORT_$name%%;
        listen 127.0.0.1:%%PORT_h2$name%% http2;
        root %%DIR%%/root;
        port_in_redirect off;
        ignore_invalid_headers off;
        keepalive_requests 6;
        client_max_body_size 50k;
        proxy_pass_header Date;
        proxy_pass_header Server;
        add_header X-Added 1 always;
        error_page 404 /err.html;
        $server
$locations
        location /p/ { proxy_pass http://up; }
        location /u/ { proxy_pass http://up; proxy_buffering off; }
        location /k/ {
            proxy_pass http://kept;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
        location /i/ {
            proxy_pass http://up;
            proxy_intercept_errors on;
            error_page 401 /err.html;
            error_page 403 =200 /p/end;
            error_page 404 500 502 \@named;
        }
        location /s/ {
            proxy_pass http://up;
            sub_filter xx yyy;
            sub_filter_once off;
            sub_filter_types *;
        }
        location /z/ {
            proxy_pass http://up;
            gzip on;
            gzip_types *;
            gzip_min_length 0;
            gzip_http_version 1.0;
            gzip_proxied any;
        }
        location /r/ {
            proxy_pass http://up;
            proxy_http_version 1.1;
            proxy_request_buffering off;
        }
        location /c/ {
            proxy_pass http://up;
            proxy_cache cache;
            proxy_cache_valid any 1h;
            proxy_cache_key \$uri;
        }
        location /e/ { proxy_pass http://up; ssi on; }
        location /files/ { autoindex on; ssi on; gzip on; }
        location /try/ { try_files /files\$uri /files/a.txt \@named; }
        location = /ret/200 { return 200 text; }
        location = /ret/204 { return 204; }
        location = /ret/301 { return 301 /files/; }
        location = /ret/401 { return 401 text; }
        location = /ret/444 { return 444; }
        location = /end { proxy_pass http://up/p/end; }
        location \@named { proxy_pass http://up; proxy_method GET; }
    }
END
}

my @scenarios;
for (my $n = 0; $n < $count; $n += @{$scenarios[-1]{requests}}) {
    my $how = pick(qw(one-by-one one-by-one pipelined));
    push @scenarios, {how => $how, requests =>
        [map { request($how eq 'pipelined') } 1 .. 1 + int rand 5]};
    $kinds{$scenarios[-1]{how}}++;
}

my (@upstreams, @nginxes);
my $test = $$;

# Also where the test ends early: prove waits for all that can write to it.
END { local $?; kill KILL => @upstreams if $$ == $test; }

for my $name (@targets) {
    my $listener = IO::Socket::INET->new(Listen => 128,
        LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";

    my $pid = fork // die "fork: $!";
    if (!$pid) {
        upstream($listener, $t->dir . "/seen.$name");
        POSIX::_exit(0);
    }

    push @upstreams, $pid;
    push @nginxes, $t->nginx(config($name, $listener->sockport),
        $name eq 'plain' ? (module => 0) : ());
}


# All that a client sees.  How a body is divided into chunks depends on when
# its pieces came.

sub run ($name, $scenario) {
    my $port = $t->port($name);
    my $client = $t->client(port => $port);
    my @requests = (@{$scenario->{requests}},
        {method => 'GET', path => '/end', version => '1.1'});
    my @seen;

    if ($scenario->{how} eq 'pipelined') {
        @seen = $t->raw(join('', map { $client->format(%$_) } @requests),
            port => $port) =~ s/(?<!\r\n)\r\n[0-9a-f]{1,5}\r\n(?!HTTP)//gr
            =~ s/\r\n\r\n\K[0-9a-f]{1,5}\r\n(?!HTTP)//gr;

    } else {
        for (@requests) {
            my $response = $client->request(%$_);
            push @seen, normal($response->raw);
            last if !$response->status;
        }
    }

    $client->close;
    return [map { masked($_) } @seen];
}

# A date, and a number that counts temporary files, too.  That of a 401 which
# the upstream cuts off is known before it is passed on, so that the header can
# say that the connection ends; without the module it ends as well.
sub masked ($raw) {
    $raw =~ s/^Date: (?!Wed, 01 Jan 2025).*\r\n//mg;
    $raw =~ s/\b0{8}\d{12}\b/boundary/g;

    my ($before, $head, $body) =
        $raw =~ m{\A(.*)(HTTP/1\.1\ 401\ (?:.+\n)+\r\n)(.*)\z}s
        or return $raw;

    my $whole = $head =~ /^Content-Length: (\d+)/m ? length $body >= $1
        : $head =~ /^Transfer-Encoding/m ? $body =~ /^0\r\n\r\n/m : 1;
    $head =~ s/^Connection: .*\r\n//m if !$whole;

    return "$before$head$body";
}

sub normal ($raw) {
    my ($head, $body) = $raw =~ /\A((?:HTTP.*?\r\n\r\n)+)(.*)\z/s
        or return $raw;
    return $raw if $head !~ /^Transfer-Encoding: chunked\r$/m;

    my $whole = '';
    while ($body =~ s/\A([0-9a-f]+)\r\n//i && hex $1) {
        $whole .= substr $body, 0, hex $1, '';
        $body =~ s/\A\r\n//;
    }

    return "$head\[$whole]$body";
}

sub differs ($got, $expected) {
    for my $n (0 .. ($#$got > $#$expected ? $#$got : $#$expected)) {
        my ($one, $other) = map { $_->[$n] // '(none)' } $got, $expected;
        next if $one eq $other;

        my $at = 0;
        $at++ while substr($one, $at, 1) eq substr($other, $at, 1);
        $at = $at > 60 ? $at - 60 : 0;

        return map { s/[^ -~]/./gr } "response $n: ",
            substr($other, $at, 200), substr $one, $at, 200;
    }

    return;
}

my %bad;
for my $n (0 .. $#scenarios) {
    my $scenario = $scenarios[$n];
    my %seen = map { $_ => run($_, $scenario) } @targets;

    for my $name (@targets[1, 2]) {
        my @how = differs($seen{$name}, $seen{plain}) or next;
        next if $bad{$name}++ > 3;
        diag "$name: scenario $n ($scenario->{how}): @how[0 .. 0]\n",
            join "\n", "without: $how[1]", "with:    $how[2]",
            map { substr Gateway::Client->format(%$_), 0, 200 }
                @{$scenario->{requests}};
    }
}

is $bad{$_} // 0, 0, "$_: the same bytes for each client" for @targets[1, 2];


# What the upstreams saw

sub upstream_saw ($name) {
    my @all = unpack '(N/a*)*', $t->read("seen.$name");
    my @seen;

    while (my ($key, $bytes) = splice @all, 0, 2) {
        $bytes =~ s/^QB-Token: .*\r\n//mi;
        push @seen, "$key $bytes";
    }

    return \@seen;
}

my $plain = upstream_saw('plain');
for my $name (@targets[1, 2]) {
    my @how = differs(upstream_saw($name), $plain);
    is "@how", '', "$name: the same requests reached the upstream";
}


# HTTP/2

my %h2;
for my $request (map { request(0) } 1 .. $count / 20) {
    next if $request->{path} =~ m{^/(?:try|ret/444)|\.\.}
        || $request->{chunked} || defined $request->{body};

    my @headers = grep {
        $_->[0] !~ /^(?:connection|upgrade|te|expect|bad@|x-empty|x-space)$/i
    } @{$request->{headers}};

    my %seen = map {
        my $r = $t->h2($request->{path}, port => $t->port("h2$_"),
            method => $request->{method}, headers => \@headers,
            token => $token);
        my @pairs = grep { lc $_->[0] ne 'date' } @{$r->pairs // []};
        $_ => !$r->complete ? 'cut off' : masked(join "\n", $r->status // 0,
            (map { "$_->[0]: $_->[1]" } @pairs), $r->body // '');
    } @targets;

    $h2{$seen{plain} eq $seen{around} && $seen{plain} eq $seen{protected}
        ? 'same' : 'different'}++;

    for my $name (@targets[1, 2]) {
        my @how = differs([$seen{$name}], [$seen{plain}]);
        diag join "\n", "$name: $request->{path}", @how if @how;
    }
}

is $h2{different} // 0, 0, 'HTTP/2: the same responses';
diag 'HTTP/2: ', $h2{same} // 0, ' the same';


# Each nginx writes the last lines when it ends.

$_->stop for @nginxes;
# How far one came whose client went away is not for nginx to say, nor whether
# it tries a connection that the upstream is about to close.
my @logs = map { [map { s/\|502, /|/r } grep { !/\|499\|/ }
    split /\n/, $_->access_log] } @nginxes;

for my $n (1, 2) {
    my @how = differs(@logs[$n, 0]);
    is "@how", '', "$targets[$n]: the same access log";
}

diag scalar(@scenarios), ' connections: ', join ', ',
    map { "$_ $kinds{$_}" } sort keys %kinds;
diag 'API calls: ', $api->calls, ', seen upstream: ', scalar @$plain;


$t->done;
