# The dashboard of examples/grafana and the alerts of examples/prometheus:
# what they name is what "quickblox_status" tells, each metric is shown, and
# promtool has nothing to say.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Gateway;
use Mojo::JSON qw(decode_json encode_json);
use Test::More;

my $PROMETHEUS = "$Gateway::ROOT/examples/prometheus";
my $GRAFANA = "$Gateway::ROOT/examples/grafana/quickblox.json";

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

# What a server that is scraped adds.
my %added = map { $_ => 1 } qw(instance job);

my @samples = samples();
my %metric = map { $_->{name} => 1 } @samples;
my %label = (%added, map { $_ => 1 } map { keys %{$_->{labels}} } @samples);
my $dashboard = decode_json(Docs::slurp($GRAFANA));
my @panels = @{$dashboard->{panels}};
my @rules = rules();
my %shown;


# The dashboard

is $dashboard->{uid}, 'quickblox-gateway', 'the dashboard has a name';
cmp_ok $dashboard->{schemaVersion}, '>=', 36, 'and a version';
is $dashboard->{id}, undef, 'and no number, which Grafana gives';

my %variable = map { $_->{name} => $_ } @{$dashboard->{templating}{list}};
is $variable{datasource}{type}, 'datasource', 'its data source is a choice';
is $variable{$_}{type}, 'query', "so is the $_"
    for qw(application instance);

is_deeply [map { $_->{datasource}{uid} // '' } grep { $_->{datasource} }
    @panels, values %variable, map { @{$_->{targets} // []} } @panels],
    [('${datasource}') x (@{[map { @{$_->{targets} // []} } @panels]}
        + grep({ $_->{type} ne 'row' } @panels) + 2)],
    'all is of that data source';

is_deeply [sort { $a <=> $b } map { $_->{id} } @panels], [1 .. @panels],
    'each panel has a number of its own';
is_deeply [overlapping()], [], 'and a place of its own';

my @targets = map { my $panel = $_; map { [$panel, $_] }
    @{$panel->{targets} // []} } @panels;
cmp_ok scalar(@targets), '>=', 20, 'there is much to see';

for (@targets) {
    my ($panel, $target) = @$_;
    my $name = "\"$panel->{title}\", $target->{refId}";

    exists_all($name, $target->{expr});
    is_deeply [grep { !$label{$_} } $target->{legendFormat}
        =~ /\{\{(\w+)\}\}/g], [], "$name: so are the labels of its legend";
    $shown{$_} = 1 for names($target->{expr});
}

exists_all("variable $_", $variable{$_}{definition} =~ s/\((\S+), (\w+)\)/
    sum by ($2) ($1)/r) for qw(application instance);

is_deeply [grep { !$shown{$_} } sort keys %metric], [],
    'all that is told is shown';


# The alerts

cmp_ok scalar(@rules), '>=', 9, 'there are alerts';

my $tests = Docs::slurp("$PROMETHEUS/quickblox.rules.test.yml");

for (@rules) {
    exists_all($_->{alert}, $_->{expr});

    like $_->{severity}, qr/^(?:critical|warning)$/, 'its severity';
    like $_->{summary}, qr/\$labels\.instance.*\$labels\.(?:application|zone)/,
        'its summary says where';
    cmp_ok length $_->{description}, '>', 120, 'its description what to do';
    is_deeply [grep { !$label{$_} } "$_->{summary} $_->{description}"
        =~ /\$labels\.(\w+)/g], [], 'by labels that exist';
    like $tests, qr/alertname="$_->{alert}"/, 'and it is tested';
}


# promtool

my $promtool = $ENV{QUICKBLOX_PROMTOOL} // 'build/promtool';

SKIP: {
    skip 'promtool is not installed', 3 if !-x $promtool;

    my %value = ('$__rate_interval' => '5m', '$application' => '.*',
        '$instance' => '.*');
    my $queries = $t->write('queries.yml', encode_json({groups => [{
        name => 'dashboard',
        rules => [map { my $number = $_; {
            record => "panel:$number",
            expr => $targets[$number][1]{expr}
                =~ s/(\$\w+)/$value{$1}/gr,
        } } 0 .. $#targets],
    }]}) =~ s/\\\//\//gr);    # which is none of its YAML's escapes

    for ("check config $PROMETHEUS/prometheus.yml",
        "test rules $PROMETHEUS/quickblox.rules.test.yml",
        "check rules $queries")
    {
        my $said = `"$promtool" $_ 2>&1`;
        is $?, 0, "promtool $_" or diag $said;
    }
}

$t->done;


# What a gateway tells that has done everything, asked as the example says.
sub samples {
    my $text = Docs::http($t, Docs::slurp("$PROMETHEUS/nginx.conf"),
        api => '127.0.0.1:' . $api->port);

    $t->nginx($text . <<'END');
quickblox_application wrong {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret Canary-Wrong-Secret;
    zone wrong 1m;
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    location /user/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /application/ {
        quickblox chat;
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
    location /wrong/ {
        quickblox wrong;
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
}
END

    is $t->get("/$_/a")->status, $_ eq 'wrong' ? 503 : 200, $_
        for qw(user application wrong);

    my $res = $t->get('/metrics', port => $t->port(9145),
        headers => {Accept => 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1'});
    is $res->header('Content-Type'),
        'text/plain; version=0.0.4; charset=utf-8', 'Prometheus is answered';

    my $body = $res->body;
    my @found;

    while ($body =~ /^(\w+)\{(.*)\} (\S+)$/mg) {
        my ($name, $labels, $value) = ($1, $2, $3);
        push @found, {name => $name, value => $value,
            labels => {$labels =~ /(\w+)="(.*?)"/g}};
    }

    # What two alerts tell apart.
    my %wrong = map { join('.', $_->{name} =~ s/quickblox_//r,
        grep { defined } @{$_->{labels}}{qw(call outcome)}) => $_->{value} }
        grep { ($_->{labels}{application} // '') eq 'wrong' } @found;

    is $wrong{'api_calls_total.create.refused'}, 1, 'refused credentials';
    is $wrong{'api_calls_total.create.failed'}, 0, 'are no failure';
    cmp_ok $wrong{backoff_seconds}, '>', 0, 'and there is a pause';

    return @found;
}

sub names ($expr) { return $expr =~ /\b(quickblox_\w+)/g }

# Whether each selector of an expression finds samples, for each of its values.
sub exists_all ($name, $expr) {
    my @missing;

    while ($expr =~ /\b(quickblox_\w+)(?:\{(.*?)\})?/g) {
        my ($metric, $matchers) = ($1, $2 // '');
        my @found = grep { $_->{name} eq $metric } @samples;
        push @missing, $metric if !@found;

        while ($matchers =~ /(\w+)(=~?)"(.*?)"/g) {
            my ($label, $operator, $value) = ($1, $2, $3);
            next if $added{$label};

            for my $one ($operator eq '=' ? $value : split /\|/, $value) {
                push @missing, "$metric $label $one" if !grep {
                    my $has = $_->{labels}{$label};
                    defined $has && ($one =~ /^\$/ || $has eq $one);
                } @found;
            }
        }
    }

    my %has = map { $_ => 1 } map { my $metric = $_; map {
        keys %{$_->{labels}} } grep { $_->{name} eq $metric } @samples }
        names($expr);
    $has{$1} = 1 while $expr =~ /label_replace\(.*?"(\w+)"/sg;

    for ($expr =~ /\b(?:by|without|on) \(([^)]*)\)/g) {
        push @missing, map { "label $_" }
            grep { !$has{$_} && !$added{$_} } split /, /;
    }

    ok names($expr) > 0, "$name: has a metric";

    return is_deeply \@missing, [], "$name: what it names is told";
}

sub overlapping {
    my (%taken, @twice);

    for my $panel (@panels) {
        my ($x, $y, $w, $h) = @{$panel->{gridPos}}{qw(x y w h)};

        for my $place (map { my $row = $_; map { "$_,$row" }
            $x .. $x + $w - 1 } $y .. $y + $h - 1)
        {
            push @twice, "$panel->{title} at $place" if $taken{$place}++;
        }

        push @twice, "$panel->{title} is too far right" if $x + $w > 24;
    }

    return @twice;
}

# By the indentation that the file has.
sub rules {
    my ($head, @texts) = split /^      - alert: /m,
        Docs::slurp("$PROMETHEUS/quickblox.rules.yml");

    return map { {
        alert => (/\A(\w+)/)[0],
        expr => (/^        expr: (?:\|\n)?(.*?)^        for:/ms)[0],
        severity => (/severity: (\w+)/)[0],
        summary => (/summary: "(.*)"/)[0],
        description => (/description: >-\n(.*?)(?=^ {0,10}\S|\z)/ms)[0],
    } } @texts;
}
