package Docs;

# Configurations of README.md and docs/, made to run on a test's machine: only
# names of files, hosts and ports are replaced.
#
# Each block that says ```nginx is one.  It is a whole nginx.conf, what is in
# http { }, or a piece: a location is put into a server, and parameters of an
# application into an application.  Where no application "chat" is configured
# there is one that has all credentials.

use strict;
use warnings;
use feature qw(signatures state);
no warnings 'experimental::signatures';

use Carp qw(croak);
use File::Copy ();
use Gateway ();

# Where secrets are: in files, in a container, in a service of systemd.
my $SECRETS = qr{/etc/nginx/quickblox/|/run/secrets/quickblox_
    |/run/credentials/nginx\.service/quickblox_}x;

sub files { return ('README.md', sort glob 'docs/*.md') }

sub slurp ($file) {
    open my $handle, '<:encoding(UTF-8)', $file or croak "$file: $!";
    local $/;

    return readline $handle;
}

# All fenced blocks of a file: {file, line, heading, language, text}.
sub blocks ($file) {
    my (@blocks, $block);
    my ($number, $heading) = (0, '');

    for my $line (split /^/, slurp($file)) {
        $number++;

        if ($line =~ /^```(\w*)$/ && !$block) {
            $block = {file => $file, line => $number, heading => $heading,
                language => $1, text => ''};

        } elsif ($line =~ /^```$/) {
            push @blocks, $block;
            undef $block;

        } elsif ($block) {
            $block->{text} .= $line;

        } elsif ($line =~ /^#+ (.+)$/) {
            $heading = $1;
        }
    }

    croak "$file: a block has no end" if $block;

    return @blocks;
}

sub configurations {
    return grep { $_->{language} eq 'nginx' } map { blocks($_) } files();
}

# The configuration below a heading, the first or a later one.
sub recipe ($file, $heading, $number = 0) {
    my @found = grep { $_->{file} eq $file && $_->{heading} eq $heading }
        configurations();

    return ($found[$number] // croak "no configuration at $heading")->{text};
}

# Names of the directives of quickblox_application, as they are documented.
sub parameters {
    state $names = {map { $_ => 1 } slurp('docs/directives.md')
        =~ /^Syntax:  (\w+).*\nDefault: .*\nContext: quickblox_app/mg};

    return $names;
}

# A copy of the login page, without its configuration; the folder.
sub login_page ($t) {
    my $dir = $t->dir . '/login-page';
    mkdir $dir;

    for (qw(index.html style.css app.js)) {
        File::Copy::copy("$Gateway::ROOT/examples/web-login/$_", $dir)
            or croak "$_: $!";
    }

    return $dir;
}

# What the harness can put into http { }.  Options: api, the address of the
# API (an upstream group of the name that the API has).
sub http ($t, $text, %opt) {
    my $api = $opt{api} // '127.0.0.1:' . $t->closed_port;
    my $backend = $opt{backend} // '127.0.0.1:' . $t->closed_port;

    # a whole nginx.conf
    my $load = 'load_module modules/ngx_http_quickblox_module.so;';
    $text =~ s/\A\Q$load\E\n\n^http \{\n(.*)^\}\n\z/$1/ms;

    my ($first) = $text =~ /^(\w+)/m;

    if (parameters()->{$first // ''}) {
        my $more = join '', map { $text =~ /^$_->[0] /m ? () : "@$_;\n" }
            [application_id => 92], [zone => 'piece 1m'];
        $text = "quickblox_application piece {\n$text$more}\n";
    }

    $text = "server {\n$text}\n" if $text =~ /^(?:location|quickblox) /m
        && $text !~ /^ *server \{/m;

    my %file = (
        auth_secret => 'jyqGNhbGxkvBTgd',
        support_auth_secret => 'Canary-Secret-93',
        password => 'Canary-Gateway-Pw',
        api_key => 'Canary-Api-Key-92',
        cookie_key => 'c0ffee' . '5eed' x 14 . 'ff',
        cookie_key_new => 'c0ffee' . 'beef' x 14 . 'ff',
    );

    for my $name (sort keys %file) {
        my $path = $t->write($name, "$file{$name}\n");
        chmod 0600, $path;
        $text =~ s{$SECRETS$name\b}{$path}g;
    }

    $text =~ s{/etc/nginx/gateway\.pem}{%%CERT%%}g;
    $text =~ s{/etc/nginx/gateway\.key}{%%KEY%%}g;
    $text =~ s{/etc/ssl/certs/ca-certificates\.crt}{%%CA%%}g;
    $text =~ s{/var/cache/nginx/}{%%DIR%%/cache-}g;
    $text =~ s{/var/www/web-login\b}{login_page($t)}ge;
    $text =~ s{\bserver api\.quickblox\.com:443;}{server $api;}g;
    $text =~ s{\blisten 443 ssl;}{listen 127.0.0.1:%%PORT_0%% ssl;}g;
    $text =~ s{\blisten (?:127\.0\.0\.1:)?(\d+);}
        {listen 127.0.0.1:%%PORT_$1%%;}g;
    $text =~ s{\bproxy_pass http://127\.0\.0\.1:(\d+)}
        {proxy_pass http://127.0.0.1:%%PORT_$1%%}g;

    # nginx -t binds, and port 80 may be taken
    $text =~ s{^( *)server \{$}{$1server \{ listen 127.0.0.1:%%PORT_0%%;}mg
        if $text !~ /\blisten /;

    # the one that nginx has by default is not an ordinary user's to open
    $text = "access_log off;\n$text" if $text =~ /^ +access_log /m;

    $text = "upstream backend { server $backend; }\n$text"
        if $text =~ m{http://backend\b};

    $text = "upstream api.quickblox.com { server $api; }\n$text"
        if $text !~ /^upstream quickblox_api/m;

    $text = <<"END" . $text if $text !~ /^ *quickblox_application chat /m;
quickblox_application chat {
    api            http://$api;
    application_id 92;
    auth_key       wJHd4cQSxpQGWx5;
    auth_secret    jyqGNhbGxkvBTgd;
    login          gateway;
    password       Canary-Gateway-Pw;
    api_key        Canary-Api-Key-92;
    cookie_key     @{[$t->dir]}/cookie_key;
    zone           docs 1m;
}
END

    return $text;
}

# The variables of the environment that the configurations name.
sub env ($t) {
    return (QUICKBLOX_AUTH_KEY => 'wJHd4cQSxpQGWx5',
        QUICKBLOX_LOGIN => 'gateway', QUICKBLOX_PASSWORD =>
        'Canary-Gateway-Pw', SSL_CERT_FILE => $t->ca);
}

# What "nginx -t" says of http(), but that the name of the API is that of an
# upstream group, as it is here alone.
sub said ($t, $text) {
    my ($ok, $said) = $t->test_config($text, env => {env($t)});

    return $said =~
        s/^.*\[warn\] .*"api" of .*"api\.quickblox\.com".*\n//mgr;
}

1;
