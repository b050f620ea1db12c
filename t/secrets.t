# No secret in any log, error page, temporary file or message, whatever happens
# (T24), and nothing of a client's or the API's that breaks a log line (T25).
#
# nginx itself writes, at level debug, the headers that it receives and sends,
# and each value that its script engine copies.  These records are known by
# their exact form, and only there may stand what a client sent or what goes to
# the upstream; a secret that never is in a header may stand nowhere at all.

use strict;
use warnings;
use lib 't/lib';

use File::Find ();
use Gateway;
use Gateway::Nginx;
use Test::More;

my $t = Gateway->new;
my $api = $t->api(tls => 1, api_key => 'Canary-Tour-Api-Key');
my $backend = $t->backend;

# How the API fails: an application and a zone of its own for each, as a
# failure backs off its application.
my @failures = (
    ['refused'],
    ['500', status => 500, body => 'Canary-Body {{token}}'],
    ['429', status => 429, headers => [['Retry-After', '7']],
        body => 'Canary-Body {{token}}'],
    ['403', status => 403, body => '{"errors":["Canary-Body {{token}}"]}'],
    ['404', status => 404, body => '{"message":"Canary-Body {{token}}"}'],
    ['422', status => 422,
        body => '{"errors":{"base":["Canary-Body {{token}}"]}}'],
    ['401', status => 401, body => '{"errors":["Canary-Body {{token}}"]}'],
    ['302', status => 302, headers => [['Location', '/Canary-Body']]],
    ['nonsense', body => 'Canary-Body {{token}}'],
    ['no JSON in the end', body => '{"session":{"token":"Canary-Body'],
    ['html', headers => [['Content-Type', 'text/html']],
        body => '<p>Canary-Body {{token}}</p>'],
    ['another token', patch => {session => {token => 'Canary-Other-Token'}}],
    ['another application', patch => {session => {application_id => 5}}],
    ['a bad status line', raw => "Canary-Body-Line\r\n\r\n"],
    ['a bad header', raw => "HTTP/1.1 200 OK\r\nCanary-Body\0: x\r\n\r\n"],
    ['a header twice', raw => "HTTP/1.1 200 Canary-Body\r\n"
        . "Content-Length: 1\r\nContent-Length: 2\r\n\r\nCanary-Body"],
    ['too large', huge => 100_000],
    ['cut', cut => 'body'],
    ['no answer', blackhole => 1],
);

sub application {
    my ($name, $zone, @more) = @_;

    return join "\n", "quickblox_application $name {", map({ "    $_;" }
        'application_id 92', 'auth_key file:%%DIR%%/auth_key',
        'auth_secret file:%%DIR%%/auth_secret', 'login gateway',
        'password env:QUICKBLOX_PASSWORD', 'api_key file:%%DIR%%/api_key',
        "zone $zone", @more), "}\n";
}

my $configuration = join '', application('chat', 'chat 1m', 'api %%API%%',
        'on_behalf_of $arg_as', 'session_lifetime 2h', 'refresh_before 119m'),
    application('tls', 'tls 32k', 'api %%API_TLS%%', 'api_host localhost',
        'ssl_trusted_certificate %%CA%%'),
    application('clock', 'clock 32k', 'api %%API%%'),
    application('untrusted', 'untrusted 32k', 'api %%API_TLS%%'),
    map({ application("failing$_", "failing$_ 32k", 'api %%API%%',
        'timeout 300ms') } 0 .. 2 * $#failures + 1), <<'END';
server {
    listen 127.0.0.1:%%PORT_0%%;
    client_body_in_file_only on;

    location / {
        quickblox chat;
        quickblox_token $http_qb_token $http_authorization;
        proxy_pass %%BACKEND%%;
    }
    location ~ ^/source/(user|application|api_key)/ {
        error_page 418 = @$1;
        return 418;
    }
    location @user {
        quickblox chat;
        quickblox_session user;
        proxy_set_header X-Session $quickblox_token;
        proxy_pass %%BACKEND%%;
    }
    location @application {
        quickblox chat;
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
    location @api_key {
        quickblox chat;
        quickblox_session api_key;
        proxy_pass %%BACKEND%%;
    }
    location /tls/ {
        quickblox tls;
        quickblox_session client user;
        proxy_pass %%BACKEND%%;
    }
    location /untrusted/ {
        quickblox untrusted;
        quickblox_session client user;
        proxy_pass %%BACKEND%%;
    }
    location /clock/ {
        quickblox clock;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /page/ {
        quickblox chat;
        error_page 401 403 503 /public/page;
        proxy_pass %%BACKEND%%;
    }
    location /public/ {
        proxy_pass %%BACKEND%%;
    }
END

$configuration .= <<"END" for 0 .. 2 * $#failures + 1;
    location /failing$_/ {
        quickblox failing$_;
        quickblox_session client user;
        proxy_pass %%BACKEND%%;
    }
END
$configuration .= "}\n";

my %secret = (
    auth_key => 'wJHd4cQSxpQGWx5',
    auth_secret => 'jyqGNhbGxkvBTgd',
    api_key => 'Canary-Tour-Api-Key',
);
chmod 0600, $t->write($_, "$secret{$_}\n") for keys %secret;

my %env = (QUICKBLOX_PASSWORD => 'Canary-Gateway-Pw');
my $nginx = $t->nginx($configuration, level => 'debug', env => \%env);

SKIP: {
    # The test still shows the rest.
    skip 'nginx has no debug log', 1
        if $nginx->error_log !~ /\[debug\]/;
    pass 'there is a debug log';
}


# The tour: what each client gets is looked through as well.

my @answers;

sub tour {
    my ($name, $status, %request) = @_;
    my $res = $t->request(%request);

    push @answers, [$name, $res->raw];
    is $res->status, $status, "tour: $name";

    return;
}

$backend->answer('*', body => 'ok');

my $token = $api->session(user_id => 5);
my $revoked = $api->session(user_id => 6);
my $application = $api->session;
my $foreign = $api->session(application_id => 93, user_id => 7);

tour('a session', 200, path => '/', token => $token);
tour('again', 200, path => '/', token => $token);
tour('as Bearer', 200, path => '/',
    headers => [[Authorization => "Bearer $token"]]);
tour('a body in a file', 200, method => 'POST', path => '/upload',
    token => $token, body => 'x' x 100_000);
tour('in chunks', 200, method => 'POST', path => '/upload',
    token => $token, body => 'x' x 100_000, chunked => 1000);
tour('none', 401, path => '/');
tour('an unknown one', 401, path => '/', token => 'Canary-Client-Unknown');
tour('an impossible one', 401, path => '/', token => 'Canary Client {no}');
tour('a password', 401, path => '/',
    headers => [[Authorization => 'Basic Q2FuYXJ5LUNsaWVudA==']]);
tour('two', 400, path => '/', headers => [['QB-Token', $token],
    ['QB-Token', 'Canary-Client-Second']]);
tour('an application session', 403, path => '/', token => $application);
tour('a foreign one', 403, path => '/', token => $foreign);
tour('a page of errors', 403, path => '/page/', token => $foreign);
tour('an API key of the client', 401, path => '/',
    headers => [[Authorization => 'ApiKey Canary-Client-Key']]);

$api->expire($revoked);
tour('a revoked one', 401, path => '/', token => $revoked);

$backend->answer('/gone', status => 401,
    body => '{"errors":{"base":["Required session does not exist"]}}');
tour('an expired response', 401, path => '/gone', token => $token);

tour("the gateway's own $_", 200, path => "/source/$_/?as=7")
    for qw(user application api_key);
tour('on behalf of nobody', 403, path => '/source/api_key/?as=');

# The renewal of these sessions begins at once and runs in the background.
$api->wait_calls('GET /session.json', 1);

$backend->answer('/source/user/replay', status => 401, times => 1,
    body => '{"errors":{"base":["Required session does not exist"]}}');
tour('a replay', 200, path => '/source/user/replay', method => 'POST',
    body => 'x' x 100_000);

tour('over TLS', 200, path => '/tls/', token => $token);
tour('over TLS, our own', 200, path => '/tls/');
tour('over TLS, untrusted', 503, path => '/untrusted/', token => $token);
tour('over TLS, untrusted, our own', 503, path => '/untrusted/');

for my $number (0 .. $#failures) {
    my ($name, %how) = @{$failures[$number]};

    for my $own (0, 1) {
        my $path = sprintf '/failing%d/', 2 * $number + $own;
        my @token = $own ? () : (token => $api->session(user_id => 5));

        %how ? $api->fail(%how) : $api->close_port;

        # "patch" has no token to change in an answer to a login.
        my $status = $name eq '401' && !$own ? 401
            : $name eq 'another application' && !$own ? 403
            : $name eq 'another token' && $own ? 200 : 503;
        tour("the API fails, $name, $path", $status, path => $path, @token);

        %how ? $api->heal : $api->open_port;
    }
}

# What the API is told of the clock, and tells.
$api->skew(7200);
tour('a clock that is wrong', 200, path => '/clock/');
$api->skew(-7200);

ok $nginx->reload, 'tour: a reload';
tour('after it', 200, path => '/', token => $token);


# nginx -t and -T, of good and bad configurations

my $said = '';
for my $case (
    ['good', $configuration, 1],
    ['bad', $configuration =~ s/(quickblox_application chat \{)/$1 nope 1;/r,
        0],
    ['worse', $configuration =~ s/(auth_secret [^;]*);/$1 Canary-Gateway-Pw;/r,
        0],
) {
    my ($name, $http, $good) = @$case;
    my $other = Gateway::Nginx->new(gateway => $t, name => 'said',
        http => $http, env => \%env);

    for my $option ('-t', '-T') {
        my ($ok, $output) = $other->test($option);
        is $ok ? 1 : 0, $good, "nginx $option: $name";
        # -T shows a configuration as it is, here without secrets but for
        # the one that was put into it.
        $said .= $output =~ s/^.*auth_secret .* Canary-Gateway-Pw;\n//mr;
    }
}

$nginx->stop;


# The search

# What is a header of a client's or of a request to the upstream may be in
# records of nginx's own, the rest must not be anywhere.
my %sent = map { $_ => 1 } $token, $revoked, $application, $foreign,
    'Canary-Tour-Api-Key', 'Canary-Other-Token', 'Canary-Client-Unknown',
    'Canary Client {no}',
    'Q2FuYXJ5LUNsaWVudA==', 'Canary-Client-Second', 'Canary-Client-Key',
    map { $_->{token} } $api->sessions;
my %never = map { $_ => 1 } 'jyqGNhbGxkvBTgd', 'wJHd4cQSxpQGWx5',
    'Canary-Gateway-Pw', 'Canary-Body';

for my $secret ($api->secrets) {
    next if $sent{$secret} || length $secret < 8;
    $secret =~ /^[0-9a-f]{40}$/ ? $sent{$secret} = 1 : ($never{$secret} = 1);
}

my $sent = join '|', map { quotemeta } keys %sent;
my $never = join '|', map { quotemeta } keys %never;

# The records of nginx's own at level debug that have headers in them.
my $headers = qr{
    http\ header:\ "                        # as a client sent it
    | http\ proxy\ header:\ "               # as it is sent on
    | http\ proxy\ header:\n"               # the same, as a whole
    | http\ script\ var:\ "                 # a variable that is evaluated
    | http\ script\ copy:\ "
}x;

my $log = $nginx->error_log;
my (%found, $records);

for my $record (split m{^(?=\d{4}/\d\d/\d\d [\d:]{8} \[)}m, $log) {
    $records++;
    my ($debug, $message) = $record
        =~ m{^\S+ \S+ \[(debug)?\w*\] \d+\#\d+: (?:\*\d+ )?(.*)}s;

    $found{"$1 in: $record"}++ if $record =~ /($never)/;
    next if $debug && $message =~ /^$headers/;
    $found{"$1 in: $record"}++ if $record =~ /($sent)/;
}

sub some { return join '', grep { defined } (sort @_)[0 .. 9] }

cmp_ok $records, '>', 1000, 'T24: the log has been looked through';
is some(keys %found), '', 'T24: no secret is in it';
ok scalar($log =~ /quickblox refused: .*, token: [0-9a-f]{8},/),
    'T24: it names tokens by their digest';
ok scalar($log =~ /http header: "QB-Token: \Q$token"/),
    "T24: nginx's own records are known" if $log =~ /\[debug\]/;

my $any = "$never|$sent";

is some(map { my ($name, $raw) = @$_;
    $raw =~ /($any)/ ? "$1 in the answer to: $name\n" : () } @answers), '',
    'T24: nor in any answer to a client';
is $said =~ /($any)/ ? $1 : '', '', 'T24: nor in what nginx -t and -T say';

my (%files, %bodies);
File::Find::find({no_chdir => 1, wanted => sub {
    return if !-f || /(?:error\.log|nginx\.conf)$/;
    my $text = $t->read(substr $_, 1 + length $t->dir);
    $files{$_} = $text =~ /($any)/ ? $1 : '';
    $bodies{$_} = 1 if $text eq 'x' x 100_000;
}}, $nginx->dir);

is some(map { $files{$_} ? "$files{$_} in $_\n" : () } keys %files), '',
    'T24: nor in any file';
is keys %bodies, 3, 'with those of request bodies';


# T25: what others send breaks no line

{
    my $other = $t->nginx($configuration, level => 'info', env => \%env);
    my $evil = "\e[31mred\n2026/11/25 00:00:00 [emerg] 1#1: forged";

    $t->get('/', token => "Canary\e[31m-Client\x07\x7f");
    $t->get('/', token => $api->session(user_id => 5),
        headers => [[Origin => "\e[31m"], ['Content-Type', "\e[31m"]]);

    my $number = 0;
    for my $how (
        {raw => "$evil\r\n\r\n"},
        {raw => "HTTP/1.1 500 $evil\r\nContent-Length: 0\r\n\r\n"},
        {raw => "HTTP/1.1 200 OK\r\n$evil: $evil\r\n\r\n"},
        {raw => "HTTP/1.1 200 OK\r\nContent-Length: $evil\r\n\r\n"},
        {status => 429, headers => [['Retry-After', "\e[31m"]], body => ''},
        {status => 422, body => '{"errors":{"base":["\u001b[31m\n"]}}'},
        {body => $evil},
        {body => '{"session":{"token":"\u001b[31m\n"}}'},
        {body => "{\"$evil\":1}"},
    ) {
        $api->fail(%$how);
        is $t->get("/failing$number/")->status, 503, 'T25: ' . join ' ',
            map { s/[^ -~]/./gr } %$how;
        $api->heal;
        $number++;
    }

    $other->stop;
    my $log = $other->error_log;

    is scalar(() = $log =~ /API call "POST .* failed, status/g), $number,
        'T25: a line of each failure';
    unlike $log, qr/[^\n\x20-\x7e]/, 'T25: only printable characters';
    is join("\n", grep { !m{^[\d/]{10} [\d:]{8} \[(?:info|notice|error)\] } }
        split /\n/, $log), '', 'T25: only lines that nginx began';
}

$t->done;
