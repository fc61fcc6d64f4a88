# The contestants in R: the same eligible customers, and a sample of given size from each stratum.
#
#   Rscript bench/r_draw.R ELIGIBLE.csv PLACES.csv OUT.csv PACKAGE SEED [Rejection|Rounding]
#
# PACKAGE is sampling (strata, method srswor) or sps (sps, every customer of size 1). Debian's R reads no Parquet, so it
# is given the frame that is already judged, as CSV. The last word is R's way to a random integer: Rejection since R
# 3.6.0, Rounding before it.
words <- commandArgs(TRUE)
if (length(words) > 5) suppressWarnings(RNGkind(sample.kind = words[6]))
began <- proc.time()[["elapsed"]]
frame <- read.csv(words[1], colClasses = "character")
places <- read.csv(words[2], colClasses = c("character", "character", "integer", "integer"))
places$needed <- places$places + places$reserve
places <- places[places$needed > 0, ]
key <- paste(frame$group_key, frame$stratum, sep = "|")
wanted <- setNames(places$needed, paste(places$group_key, places$stratum, sep = "|"))
frame <- frame[key %in% names(wanted), ]
key <- key[key %in% names(wanted)]
set.seed(strtoi(substr(words[5], 1, 7), 16))
was_read <- proc.time()[["elapsed"]]
if (words[4] == "sampling") {
  suppressMessages(library(sampling))
  # strata() takes the sizes in the order in which the strata first appear.
  chosen <- strata(frame, c("group_key", "stratum"), wanted[unique(key)], "srswor")
  drawn <- frame[chosen$ID_unit, ]
} else {
  library(sps)
  strata <- factor(key)
  drawn <- frame[sps(rep(1, nrow(frame)), wanted[levels(strata)], strata), ]
}
cat(sprintf('{"read": %.3f, "select": %.3f}\n', was_read - began, proc.time()[["elapsed"]] - was_read))
write.csv(drawn[, c("customer_id", "group_key", "stratum")], words[3], row.names = FALSE, quote = FALSE)
