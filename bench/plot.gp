# The ratios of "make bench": a line from the smallest to the largest of the
# rounds, a dot for the median, a bar for the bound.
#
#     gnuplot -c bench/plot.gp DATA SVG

set terminal svg noenhanced size 900, 560 font "sans-serif,12" \
    background "white"
set output ARG2

set logscale x 2
set xrange [0.75:6]
set xtics (0.8, 1, 1.2, 1.5, 2, 3, 4, 6)
set xlabel "CPU time per request, 1 is a literal header"
set grid xtics
set yrange [0:*]
set key top right
set border 3
set tics nomirror

plot ARG1 using 3:2:4:5:ytic(1) with xerrorbars pt 7 ps 0.6 lc "#205080" \
         title "median, smallest, largest", \
     ARG1 using 6:2 with points pt "|" ps 1.4 lc "#c03020" title "bound"
