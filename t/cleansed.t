# What was somebody's secret does not remain in a worker's memory, nor so in a
# core file (T24).
#
# The memory is looked through from outside, under a library in which nothing
# that is freed is used again.  What nginx itself reads from a client, and
# sends, stays in its buffers: tokens and cookies as the header that they came
# or went with.  A password does not, wherever it was.

use strict;
use warnings;
use feature 'signatures';
no warnings qw(experimental::signatures portable);
use lib 't/lib';

use Gateway;
use List::Util qw(uniq);
use MIME::Base64 qw(encode_base64);
use Test::More;

my $ROUNDS = $ENV{QUICKBLOX_LONG} ? 100 : 5;

my $library = ($ENV{QUICKBLOX_UNITS} // 'build/unit') . '/keep.so';

plan skip_all => "$library has not been built" if !-e $library;
plan skip_all => 'a sanitizer and valgrind have a free() of their own'
    if $ENV{NGINX_PRELOAD} || $ENV{QUICKBLOX_VALGRIND};

my $t = Gateway->new;
my $api = $t->api(tls => 1);
my $backend = $t->backend;

my %configured = (
    auth_key => 'wJHd4cQSxpQGWx5',
    auth_secret => 'jyqGNhbGxkvBTgd',
    password => 'Canary-Gateway-Pw',
    api_key => 'Canary-Api-Key-92',
    cookie_key => '0123456789abcdef' x 4,
);
chmod 0600, $t->write($_, "$configured{$_}\n") for keys %configured;

my $applications = join '', map { <<"END" } [chat => ''], [tls => '_TLS'];
quickblox_application $_->[0] {
    api %%API$_->[1]%%;
    api_host localhost;
    ssl_trusted_certificate %%CA%%;
    application_id 92;
    auth_key file:%%DIR%%/auth_key;
    auth_secret file:%%DIR%%/auth_secret;
    login gateway;
    password file:%%DIR%%/password;
    api_key file:%%DIR%%/api_key;
    zone quickblox 1m;
    cookie_key %%DIR%%/cookie_key;
    cookie qb "Path=/; HttpOnly";
    connect_timeout 20s;
    timeout 20s;
}
END

my $locations = join '', map { <<"END" } qw(chat tls);
    location = /$_/login {
        quickblox $_;
        quickblox_login;
    }
    location = /$_/token {
        quickblox $_;
        quickblox_login token;
    }
    location = /$_/logout {
        quickblox $_;
        quickblox_session cookie;
        quickblox_logout destroy;
    }
    location /$_/ {
        quickblox $_;
        quickblox_session client basic cookie user;
        proxy_pass %%BACKEND%%;
    }
    location /$_/as/ {
        quickblox $_;
        quickblox_session user_token;
        quickblox_user \$arg_user;
        proxy_pass %%BACKEND%%;
    }
END

my $nginx = $t->nginx(<<"END", env => {LD_PRELOAD => $library});
$applications
log_format user \$remote_user;
access_log %%DIR%%/nginx/access.log user;

server {
    listen 127.0.0.1:%%PORT_0%%;
    client_header_buffer_size 256;
    client_body_buffer_size 256;
$locations
}
END

# The private memory that can be written, [heap], [stack] and all others.
sub memory ($pid) {
    my @memory;

    open my $maps, '<', "/proc/$pid/maps" or return;
    open my $memory, '<:raw', "/proc/$pid/mem" or return;

    for (<$maps>) {
        my ($from, $to) = /^(\w+)-(\w+) rw-p/ or next;
        sysseek $memory, hex $from, 0;
        push @memory, ''
            if sysread $memory, $memory[@memory], hex($to) - hex $from;
    }

    return grep { length } @memory;
}

my ($worker) = $nginx->workers;

if (!memory($worker)) {
    diag "/proc/$worker/mem: $!";
    pass 'SKIP: the memory of another process may not be read';
    $t->done;
    exit;
}


# The requests

my %secrets;
my $JSON = 'application/json';
my $FORM = 'application/x-www-form-urlencoded';

sub secret ($kind, $secret) {
    push @{$secrets{$kind}}, $secret;

    return $secret;
}

sub user ($what) {
    my $id = 1000 + $api->{user_ids}++;
    my $password = secret("the password of $what", "CanaryPw${id}x");

    $api->user(id => $id, login => "user$id", password => $password);

    return ("user$id", $password);
}

my $wrong = 0;
my $requests = 0;

sub expect ($status, %request) {
    my $res = $t->request(%request);

    $requests++;
    $wrong++, diag "$request{path}: ", $res->status
        if $res->status != $status;

    my ($cookie) = ($res->header('Set-Cookie') // '') =~ /^qb=([^;]+)/;
    secret('a cookie', $cookie) if $cookie;

    return $cookie;
}

sub login ($path, $what, $body, %how) {
    my ($login, $password) = user($what);

    return expect($how{status} // 200, method => 'POST', path => $path, %how,
        body => sprintf($body, $login, $password),
        headers => [['Content-Type', $body =~ /^\{/ ? $JSON : $FORM]]);
}

sub basic ($path, $what, %how) {
    my $base64 = encode_base64(join(':', user($what)), '');

    secret("Basic of $what", $base64);
    expect($how{status} // 200, path => $path,
        headers => [[Authorization => "Basic $base64"]]);

    return;
}

my $json = '{"login":"%s","password":"%s"}';
my $form = 'login=%s&password=%s';

$backend->answer('*', body => 'ok');

for my $round (1 .. $ROUNDS) {
    for my $to ('chat', 'tls') {
        for my $path ("/$to/login", "/$to/token") {
            login($path, "JSON, $path", $json);
            login($path, "a form, $path", $form);
            login($path, "an escaped one, $path",
                '{"login":"%s","password":"%s\u0021"}', status => 401);
            login($path, "chunks, $path", $json, chunked => 10);
            login($path, "a long body, $path", $form . '&x=' . 'x' x 2000);
            login($path, "what is malformed, $path", "$json}",
                status => 400);
            login($path, "a wrong login, $path", 'login=x%s&password=%s',
                status => 401);

            expect(200, path => $path, json =>
                {token => secret('an adopted token',
                    $api->session(user_id => 5))});

            my ($login, $password) = user("an upgrade, $path");
            expect(200, path => $path, json => {login => $login,
                password => $password, token => $api->session});

            # The API fails after it has been told, and has told.
            $api->fail(endpoint => 'POST /session.json', status => 422,
                times => 1, body => 'Canary {{token}}');
            login($path, "a refusal, $path", $json, status => 401);
        }

        my $cookie = login("/$to/login", "one with a cookie", $form);
        expect(200, path => "/$to/", headers => [[Cookie => "qb=$cookie"]]);
        secret('a token', $_->{token}) for $api->sessions;
        expect(200, method => 'POST', path => "/$to/logout",
            headers => [[Cookie => "qb=$cookie"]]);

        expect(200, path => "/$to/",
            token => $api->session(user_id => 5));
        expect(200, path => "/$to/as/?user=5");
        expect(200, path => "/$to/");

        basic("/$to/", "basic, $to");

        $backend->answer("/$to/again", status => 401, times => 1,
            body => '{"errors":{"base":["Required session does not exist"]}}');
        basic("/$to/again", "a replay, $to");
    }
}

is $wrong, 0, "$requests requests are answered as they should be";


# The search

secret('a token', $_->{token}) for $api->sessions;

# Where nginx has what a client sent, and what it has sent to others.
my %own = (
    'a token' => qr/QB-Token(?:\0 |: )$/,
    'a cookie' => qr/(?:Cookie\0 |Set-Cookie: |\0)qb=$/,
);

my @memory = memory($worker);
my $size = 0;
$size += length for @memory;

sub found ($secrets, $own) {
    my $any = join '|', map { quotemeta } uniq @$secrets;
    my @found;

    for my $memory (@memory) {
        while ($memory =~ /$any/g) {
            my $from = $-[0] > 60 ? $-[0] - 60 : 0;
            my $before = substr $memory, $from, $-[0] - $from;
            next if $own && $before =~ $own;
            push @found, $before =~ s/[^ -~]+/./gr;
        }
    }

    return @found;
}

note sprintf '%d MB are looked through', $size >> 20;

for my $kind (sort keys %secrets) {
    my @found = found($secrets{$kind}, $own{$kind});

    is scalar(@found), 0, "T24: $kind, of " . uniq @{$secrets{$kind}}
        or diag join "\n", @found[0 .. ($#found < 4 ? $#found : 4)];
}

# A secret of each of the two applications is there, an API key also as it is
# sent, and a cookie's key also as what it is expanded to.
my %count = (auth_key => 2, auth_secret => 2, password => 2, api_key => 4);

for (sort keys %count) {
    my @found = found([$configured{$_}], undef);
    is scalar(@found), $count{$_}, "T24: $_ is where it has to be"
        or diag join "\n", @found;
}

my @text = found([$configured{cookie_key}], undef);
my @keys = found([pack 'H*', $configured{cookie_key}], undef);

is scalar(@text), 0, 'T24: the text of a key is nowhere';
cmp_ok scalar(@keys), '<=', 4, 'T24: the key is where it has to be';

ok scalar(found($secrets{'a token'}, undef)),
    'what nginx has in its own buffers is found';

$t->done;
