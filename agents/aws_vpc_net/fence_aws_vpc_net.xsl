<?xml version="1.0" encoding="UTF-8"?>
<!-- The first part of the manual page, from the agent's metadata: each option once. make appends the .roff file.
     fence2man.xsl of fence-agents shows every option twice, and describes the actions of a power switch. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:output method="text" encoding="UTF-8"/>
<xsl:param name="version"/>

<!-- Options: a hyphen that can be copied -->
<xsl:template name="hyphens">
<xsl:param name="text"/>
<xsl:choose>
<xsl:when test="contains($text, '-')">
<xsl:value-of select="substring-before($text, '-')"/>
<xsl:text>\-</xsl:text>
<xsl:call-template name="hyphens"><xsl:with-param name="text" select="substring-after($text, '-')"/></xsl:call-template>
</xsl:when>
<xsl:otherwise><xsl:value-of select="$text"/></xsl:otherwise>
</xsl:choose>
</xsl:template>

<xsl:template name="option">
<xsl:param name="usage" select="getopt/@mixed"/>
<xsl:param name="text" select="normalize-space(shortdesc)"/>
<xsl:text>.TP&#10;.B </xsl:text>
<xsl:call-template name="hyphens"><xsl:with-param name="text" select="$usage"/></xsl:call-template>
<xsl:text>&#10;</xsl:text>
<xsl:value-of select="$text"/>
<xsl:if test="substring($text, string-length($text)) != '.'">.</xsl:if>
<xsl:choose>
<xsl:when test="content/@default = ','"> Default: a comma.</xsl:when>
<xsl:when test="content/@default"> Default: <xsl:value-of select="content/@default"/>.</xsl:when>
</xsl:choose>
<xsl:text>&#10;</xsl:text>
</xsl:template>

<xsl:template match="parameter">
<xsl:if test="@name = 'quiet'">.SS Options of every fence agent&#10;<xsl:text/>
<xsl:text>disable_timeout, login_timeout, power_timeout, retry_on, shell_timeout and stonith_status_sleep have no effect on </xsl:text>
<xsl:text>this agent: deadline limits off and on.&#10;</xsl:text>
</xsl:if>
<xsl:call-template name="option"/>
</xsl:template>

<xsl:template match="parameter[@deprecated]"/>

<!-- interface0_sg, interface1_sg, and so on: one paragraph -->
<xsl:template match="parameter[not(@deprecated) and starts-with(@name, 'interface')]" priority="2">
<xsl:if test="@name = 'interface0_sg'">
<xsl:variable name="text" select="normalize-space(shortdesc)"/>
<xsl:variable name="last" select="../parameter[starts-with(@name, 'interface') and not(@deprecated)][last()]"/>
<xsl:call-template name="option">
<xsl:with-param name="usage" select="concat(getopt/@mixed, ' to ', $last/getopt/@mixed)"/>
<xsl:with-param name="text"
    select="concat(substring-before($text, 'interface 0'), 'the interface of this number', substring-after($text, 'interface 0'))"/>
</xsl:call-template>
</xsl:if>
</xsl:template>

<xsl:template match="/resource-agent">
<xsl:text>.TH FENCE_AWS_VPC_NET 8 "" "</xsl:text><xsl:value-of select="concat(@name, ' ', $version)"/>
<xsl:text>" "Fence agents"&#10;.SH NAME&#10;</xsl:text>
<xsl:value-of select="concat(@name, ' \- ', @shortdesc)"/>
<xsl:text>&#10;.SH DESCRIPTION&#10;</xsl:text>
<xsl:value-of select="longdesc"/>
<xsl:text>
.SH OPTIONS
An option is written on the command line, or as a line
.I name=value
on stdin, as Pacemaker does. On stdin, the name is without the leading hyphens, and \(aq_\(aq and \(aq\-\(aq are the same. An option
without a value on the command line has a value on stdin: 1, yes, on or true, or 0, no, off or false. Other values are refused.
</xsl:text>
<xsl:apply-templates select="parameters/parameter"/>
</xsl:template>
</xsl:stylesheet>
