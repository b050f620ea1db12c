# Nobody learns from a refusal what was nearly right (T26): not by its answer,
# nor by the time that a comparison takes.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use FindBin;
use Gateway;
use MIME::Base64;
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;
my $key = $t->write('key', '5eed' x 16);
chmod 0600, $key;

$t->nginx(<<'END');
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone quickblox 1m;
    cookie_key %%DIR%%/key;
    cookie qb Path=/;
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    quickblox chat;

    location / {
        quickblox_session client basic cookie;
        proxy_pass %%BACKEND%%;
    }
    location = /login {
        quickblox_login;
    }
}
END

# All that a client can see, but the time of day.
sub seen (%request) {
    my $res = $t->request(%request);

    return join "\n", $res->status, $res->body,
        map { "$_->[0]: $_->[1]" } grep { $_->[0] ne 'Date' }
        @{$res->{headers}};
}

sub uniform ($name, @requests) {
    my ($first, @others) = map { seen(%$_) } @requests;

    like $first, qr/^401\n/, "T26: $name: refused";
    is $others[$_], $first, "T26: $name: as any other, $_" for 0 .. $#others;

    return;
}

sub login ($login, $password) {
    return {method => 'POST', path => '/login',
        json => {login => $login, password => $password}};
}

sub basic ($login, $password) {
    return {path => '/', headers => [['Authorization', 'Basic '
        . encode_base64("$login:$password", '')]]};
}

sub cookie ($value) {
    return {path => '/', headers => [['Cookie', "qb=$value"]]};
}

my $token = $api->session(user_id => 5);
my ($value) = $t->request(%{login('bob', 'Canary-Bob-Pw')})
    ->header('Set-Cookie') =~ /^qb=([^;]+)/;

uniform('a login', login('bob', 'Canary-Bob-Px'), login('bob', 'wrong'),
    login('nobody', 'Canary-Bob-Pw'), login('', 'wrong'));
uniform('basic', basic('bob', 'Canary-Bob-Px'), basic('bob', 'wrong'),
    basic('nobody', 'Canary-Bob-Pw'), basic('', 'wrong'));
uniform('a token', map { {path => '/', token => $_} }
    substr($token, 0, 39) . ($token =~ /0$/ ? 1 : 0), 'a' x 40, 'x;y' x 9,
    "$token$token");
uniform('a cookie', map { cookie($_) } '', 'x', substr($value, 1),
    substr($value, 0, -1), $value =~ tr/A-Za-z/B-ZAb-za/r);
is $backend->hits, 0, 'T26: no upstream hears of them';


# Of two strings the time of memcmp() tells how much is the same.  What is
# secret, or the digest of it, is compared by CRYPTO_memcmp().

my $sources = "$FindBin::Bin/../ngx_http_quickblox_module";
my @found;

for my $path (glob "$sources/*.c") {
    open my $file, '<', $path or die "$path: $!";
    my $text = do { local $/; <$file> };

    while ($text =~ /\b((?:ngx_)?(?:mem|str|strn|strcase|strncase)cmp
        (\((?:[^()]++|(?2))*\)))/gx)
    {
        my $call = $1 =~ s/\s+/ /gr;

        push @found, "$path: $call"
            if $call =~ /token|password|secret|digest|credential|sealed/
            && $call !~ /"/ && $call !~ /cmd->name/;
    }
}

is_deeply \@found, [], 'T26: no secret is compared byte by byte';

$t->done;
